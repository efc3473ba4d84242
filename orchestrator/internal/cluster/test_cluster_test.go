package cluster_test

import (
	"context"
	"errors"
	"fmt"

	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/cluster"
	"github.com/treatyhq/treaty/orchestrator/internal/cluster/clustertest"
)

const (
	lease  = cluster.DefaultLease
	poll   = cluster.DefaultPoll
	shards = 64
)

// testCluster is a cluster in virtual time. Nobody may end it before all instances have ended.
type testCluster struct {
	t      *testing.T
	memory clustertest.Memory
	begin  time.Time
	shards int

	mutex     sync.Mutex
	instances []*instance
	epochs    map[int]uint64
	acquired  int // calls of Acquired of all instances
}

// run runs a test in virtual time, and watches all the while that no two instances may act for one shard.
func run(t *testing.T, test func(*testCluster)) {
	synctest.Test(t, func(t *testing.T) {
		w := &testCluster{t: t, begin: time.Now(), shards: shards, epochs: make(map[int]uint64)}
		done := make(chan struct{})
		watcher := make(chan struct{})
		go func() {
			defer close(watcher)
			for {
				select {
				case <-done:
					return
				case <-time.After(7 * time.Millisecond):
					w.check()
				}
			}
		}()
		test(w)
		for _, i := range w.instances {
			i.link.set(func(f *faults) { f.stopped, f.failing = false, true })
			i.stop()
		}
		for _, i := range w.instances {
			<-i.ended
		}
		close(done)
		<-watcher
		w.mutex.Lock()
		defer w.mutex.Unlock()
		for _, i := range w.instances {
			for shard := range i.driven {
				t.Errorf("instance %d still drives shard %d at its end", i.number, shard)
			}
		}
	})
}

// check fails the test if two instances may act for one shard now.
func (w *testCluster) check() {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	valid := make(map[int]*instance)
	for _, i := range w.instances {
		for shard, h := range i.driven {
			if !h.Valid() {
				continue
			}
			if other := valid[shard]; other != nil {
				w.t.Errorf("after %v, instances %d and %d may both act for shard %d", time.Since(w.begin), other.number,
					i.number, shard)
			}
			valid[shard] = i
		}
	}
}

// instance is one instance of the cluster.
type instance struct {
	*testCluster

	number int
	member *cluster.Member
	link   *link
	stop   context.CancelFunc
	ended  chan struct{}
	offset atomic.Int64 // of its clock

	// The cluster's mutex guards these.
	driven   map[int]*cluster.Holding
	slowLost time.Duration
	refuse   int // calls of Acquired that fail
	lost     int // calls of Lost
}

// start starts an instance.
func (w *testCluster) start() *instance {
	w.t.Helper()
	i := &instance{
		testCluster: w, link: &link{Directory: &w.memory}, ended: make(chan struct{}),
		driven: make(map[int]*cluster.Holding),
	}
	w.mutex.Lock()
	i.number = len(w.instances)
	w.instances = append(w.instances, i)
	w.mutex.Unlock()
	member, err := cluster.New(cluster.Config{
		Directory: i.link, Address: fmt.Sprintf("127.0.0.1:%d", i.number), Shards: w.shards,
		Acquired: i.acquire, Lost: i.lose,
		Clock:  func() time.Duration { return time.Since(w.begin) + time.Duration(i.offset.Load()) },
		Logger: slog.New(slog.NewTextHandler(w.t.Output(), nil)).With("instance", i.number),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	i.member = member
	ctx, cancel := context.WithCancel(w.t.Context())
	i.stop = cancel
	go func() {
		defer close(i.ended)
		member.Run(ctx)
	}()
	return i
}

// startAll starts instances and waits until the shards are spread over them.
func (w *testCluster) startAll(count int) []*instance {
	w.t.Helper()
	var instances []*instance
	for range count {
		instances = append(instances, w.start())
	}
	w.awaitSpread(5*time.Second, instances...)
	return instances
}

func (i *instance) acquire(_ context.Context, h *cluster.Holding) error {
	i.mutex.Lock()
	defer i.mutex.Unlock()
	if i.refuse > 0 {
		i.refuse--
		return errors.New("the store is down")
	}
	if i.driven[h.Shard] != nil {
		i.t.Errorf("instance %d acquires shard %d, which it drives", i.number, h.Shard)
	}
	if before := i.epochs[h.Shard]; h.Epoch <= before || h.PreviousEpoch < before {
		i.t.Errorf("shard %d is acquired under epoch %d after %d, and is told %d", h.Shard, h.Epoch, before,
			h.PreviousEpoch)
	}
	i.epochs[h.Shard] = h.Epoch
	i.driven[h.Shard] = h
	i.acquired++
	return nil
}

func (i *instance) lose(h *cluster.Holding) {
	i.mutex.Lock()
	slow := i.slowLost
	i.mutex.Unlock()
	<-time.After(slow)
	i.mutex.Lock()
	defer i.mutex.Unlock()
	if i.driven[h.Shard] != h {
		i.t.Errorf("instance %d loses shard %d, which it doesn't drive under epoch %d", i.number, h.Shard, h.Epoch)
	}
	delete(i.driven, h.Shard)
	i.lost++
}

// holdings returns what the instance drives.
func (i *instance) holdings() []*cluster.Holding {
	i.mutex.Lock()
	defer i.mutex.Unlock()
	var holdings []*cluster.Holding
	for _, h := range i.driven {
		holdings = append(holdings, h)
	}
	return holdings
}

// valid returns for how many shards the instance may act.
func (i *instance) valid() int {
	count := 0
	for _, h := range i.holdings() {
		if h.Valid() {
			count++
		}
	}
	return count
}

// lostCount returns how many shards the instance has lost or handed over.
func (i *instance) lostCount() int {
	i.mutex.Lock()
	defer i.mutex.Unlock()
	return i.lost
}

// spread returns whether all shards are driven, evenly, by instances that may act.
func (w *testCluster) spread(instances []*instance) bool {
	total := 0
	for _, i := range instances {
		count := i.valid()
		if count < w.shards/len(instances) || count > (w.shards+len(instances)-1)/len(instances) {
			return false
		}
		total += count
	}
	return total == w.shards
}

// awaitSpread waits until the shards are spread over instances, and returns how long it took.
func (w *testCluster) awaitSpread(limit time.Duration, instances ...*instance) time.Duration {
	w.t.Helper()
	begin := time.Now()
	for !w.spread(instances) {
		if time.Since(begin) > limit {
			var counts []int
			for _, i := range instances {
				counts = append(counts, i.valid())
			}
			w.t.Errorf("after %v, the shards are spread like this: %v of %d", limit, counts, w.shards)
			return limit
		}
		<-time.After(time.Millisecond)
	}
	return time.Since(begin)
}

// acquisitions returns how often a shard was acquired.
func (w *testCluster) acquisitions() int {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return w.acquired
}

// errLink is the error of a link that is down.
var errLink = errors.New("the database can't be reached")

// link is an instance's way to the directory. Its methods may be called concurrently.
type link struct {
	cluster.Directory

	mutex sync.Mutex
	now   faults
}

// faults are what is wrong with a link.
type faults struct {
	failing bool          // calls fail before they have an effect
	crashed bool          // they do so for ever
	mute    bool          // calls have their effect and then fail
	stopped bool          // calls don't return, and have no effect
	slow    time.Duration // how long a call takes in each direction
	hang    int           // renewals that hang until their context ends
	renewal error         // what renewals return
}

func (l *link) set(change func(*faults)) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	change(&l.now)
}

func (l *link) faults() faults {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.now
}

// pass carries a call and its answer.
func (l *link) pass(ctx context.Context, call func() error) error {
	if err := l.travel(ctx); err != nil {
		return err
	}
	if l.faults().failing {
		return errLink
	}
	err := call()
	if lost := l.travel(ctx); lost != nil {
		return lost
	}
	if l.faults().mute {
		return errLink
	}
	return err
}

// travel waits as long as a message needs, and while the process is stopped. A context counts only while the process
// runs, and not beyond a stop.
func (l *link) travel(ctx context.Context) error {
	if slow := l.faults().slow; slow > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(slow):
		}
	}
	for l.faults().stopped {
		<-time.After(time.Millisecond)
	}
	return ctx.Err()
}

func (l *link) Join(ctx context.Context, joining cluster.Joining) (count int, err error) {
	err = l.pass(ctx, func() (err error) {
		count, err = l.Directory.Join(ctx, joining)
		return err
	})
	return count, err
}

func (l *link) Renew(ctx context.Context, member string) error {
	hang := false
	l.set(func(f *faults) {
		if hang = f.hang > 0; hang {
			f.hang--
		}
	})
	if hang {
		<-ctx.Done()
		return ctx.Err()
	}
	if err := l.faults().renewal; err != nil {
		return err
	}
	return l.pass(ctx, func() error { return l.Directory.Renew(ctx, member) })
}

func (l *link) List(ctx context.Context) (view cluster.View, err error) {
	err = l.pass(ctx, func() (err error) {
		view, err = l.Directory.List(ctx)
		return err
	})
	return view, err
}

func (l *link) Fence(ctx context.Context, suspect cluster.Suspect) (fenced bool, err error) {
	err = l.pass(ctx, func() (err error) {
		fenced, err = l.Directory.Fence(ctx, suspect)
		return err
	})
	return fenced, err
}

func (l *link) Claim(ctx context.Context, member string, limit int) (claims []cluster.Claim, err error) {
	err = l.pass(ctx, func() (err error) {
		claims, err = l.Directory.Claim(ctx, member, limit)
		return err
	})
	return claims, err
}

func (l *link) GiveUp(ctx context.Context, member string, shards []cluster.ShardEpoch) error {
	return l.pass(ctx, func() error { return l.Directory.GiveUp(ctx, member, shards) })
}

func (l *link) Retire(ctx context.Context, member string) error {
	return l.pass(ctx, func() error { return l.Directory.Retire(ctx, member) })
}

func (l *link) Leave(ctx context.Context, member string) error {
	return l.pass(ctx, func() error { return l.Directory.Leave(ctx, member) })
}
