package postgres_test

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/treatyhq/treaty/internal/postgres"
	"github.com/treatyhq/treaty/internal/postgrestest"
	"github.com/treatyhq/treaty/orchestrator/internal/cluster"
	directories "github.com/treatyhq/treaty/orchestrator/internal/cluster/postgres"
)

// limit is how long a fleet may take for anything. It only ends tests that hang: machines differ.
const limit = 30 * time.Second

// fleet are members of one cluster, in real time on a real database.
type fleet struct {
	t       *testing.T
	shards  int
	changed chan struct{}

	mutex  sync.Mutex
	driven map[int]map[string]bool // the members that drive each shard
	epochs map[int]uint64
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	return &fleet{
		t: t, shards: cluster.DefaultShards, changed: make(chan struct{}, 1),
		driven: make(map[int]map[string]bool), epochs: make(map[int]uint64),
	}
}

// ship is one member of a fleet.
type ship struct {
	directory *directories.Directory
	stop      context.CancelFunc
	ended     chan struct{}
}

func (f *fleet) start(d *database) *ship {
	f.t.Helper()
	s := &ship{directory: d.open(), ended: make(chan struct{})}
	member, err := cluster.New(cluster.Config{
		Directory: s.directory,
		Address:   "127.0.0.1:0",
		Acquired:  f.acquire,
		Lost:      f.lose,
		Logger:    slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(f.t.Context())
	s.stop = cancel
	go func() {
		defer close(s.ended)
		member.Run(ctx)
	}()
	f.t.Cleanup(func() {
		cancel()
		<-s.ended
	})
	return s
}

func (f *fleet) acquire(_ context.Context, h *cluster.Holding) error {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if h.Epoch <= f.epochs[h.Shard] {
		f.t.Errorf("shard %d is acquired under epoch %d after %d", h.Shard, h.Epoch, f.epochs[h.Shard])
	}
	f.epochs[h.Shard] = h.Epoch
	if f.driven[h.Shard] == nil {
		f.driven[h.Shard] = make(map[string]bool)
	}
	f.driven[h.Shard][h.Member] = true
	f.signal()
	return nil
}

func (f *fleet) lose(h *cluster.Holding) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	delete(f.driven[h.Shard], h.Member)
	f.signal()
}

func (f *fleet) signal() {
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// await waits until each shard is driven by one of so many members, evenly, and returns how long it took.
func (f *fleet) await(members int) time.Duration {
	f.t.Helper()
	begin := time.Now()
	for !f.even(members) {
		select {
		case <-f.changed:
		case <-time.After(limit):
			f.t.Fatalf("after %v, the shards are driven by %v", limit, f.counts())
		}
	}
	return time.Since(begin)
}

// counts returns how many shards each member drives.
func (f *fleet) counts() map[string]int {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	counts := make(map[string]int)
	for _, members := range f.driven {
		for member := range members {
			counts[member]++
		}
	}
	return counts
}

func (f *fleet) even(members int) bool {
	counts, total := f.counts(), 0
	for _, count := range counts {
		if count > (f.shards+members-1)/members {
			return false
		}
		total += count
	}
	return total == f.shards && len(counts) == members
}

// Members join, one is told to stop, and one crashes.
func TestMembers(t *testing.T) {
	postgrestest.Each(t, func(t *testing.T, major int) {
		d := newDatabase(t, postgrestest.DatabaseOn(t, major))
		f := newFleet(t)
		first := f.start(d)
		t.Logf("the first member had all shards after %v", f.await(1))
		second := f.start(d)
		f.start(d)
		t.Logf("three members had their shares after %v", f.await(3))

		first.stop()
		begin := time.Now()
		f.await(2)
		t.Logf("a member handed over in %v", time.Since(begin))
		<-first.ended

		second.directory.Close() // It can't do anything any more.
		t.Logf("the shards of a member that crashed were driven again after %v", f.await(1))
	})
}

// The server crashes for longer than a lease. All members lose their shards, and take them again.
func TestServerCrashes(t *testing.T) {
	server, err := postgres.Start(t.Context(), postgres.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	d := newDatabase(t, server.DSN("postgres"))
	f := newFleet(t)
	f.start(d)
	f.start(d)
	f.await(2)
	server.Kill()
	for len(f.counts()) > 0 {
		select {
		case <-f.changed:
		case <-time.After(limit):
			t.Fatalf("without a database, shards are driven by %v", f.counts())
		}
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("the members had their shares again after %v", f.await(2))
}

// The primary crashes, and its synchronous standby takes over. The members find it by themselves.
func TestFailover(t *testing.T) {
	settings := map[string]string{"synchronous_standby_names": ""}
	server, err := postgres.Start(t.Context(), postgres.Config{Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	standby, err := server.Standby(t.Context(), "second", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = standby.Close() })
	d := newDatabase(t, server.DSN("postgres", standby))
	for _, statement := range []string{"ALTER SYSTEM SET synchronous_standby_names = 'second'", "SELECT pg_reload_conf()"} {
		if _, err := d.connect().Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	f := newFleet(t)
	f.start(d)
	f.start(d)
	f.await(2)
	server.Kill()
	killed := time.Now()
	if err := standby.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("promoted %v after the crash", time.Since(killed))
	f.start(d) // The third shows that the directory works again, also if no lease ended meanwhile.
	f.await(3)
	t.Logf("three members had their shares %v after the crash", time.Since(killed))
}
