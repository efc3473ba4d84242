package orchestrator

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"

	"github.com/treatyhq/treaty/orchestrator/internal/cluster"
	clusterdb "github.com/treatyhq/treaty/orchestrator/internal/cluster/postgres"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/postgres"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/sealed"
	"github.com/treatyhq/treaty/orchestrator/internal/shards"
)

// purgingShard is the shard whose owner deletes what is older than its retention.
const purgingShard = 0

// share is what this process drives of a store that others share.
type share struct {
	r         *running
	engines   *shards.Engines
	directory *clusterdb.Directory
	member    *cluster.Member

	cancel  context.CancelFunc // nil before join
	running sync.WaitGroup

	joined     chan struct{} // closed when the first shard was acquired
	joinedOnce sync.Once

	mu     sync.Mutex
	driven map[*cluster.Holding]*driven
}

func newShare(r *running, listener net.Listener) (*share, error) {
	directory, err := clusterdb.Open(r.o.settings.store)
	if err != nil {
		return nil, err
	}
	s := &share{
		r: r, engines: shards.New(r.shared), directory: directory, driven: make(map[*cluster.Holding]*driven),
		joined: make(chan struct{}),
	}
	s.member, err = cluster.New(cluster.Config{
		Directory: directory, Address: addressFrom(listener), Logger: r.logger, Acquired: s.acquired, Lost: s.lost,
	})
	if err != nil {
		directory.Close()
		return nil, fmt.Errorf("sharing the store %s: %w", r.store.Name(), err)
	}
	return s, nil
}

// join begins to drive shards, and returns once there is one, or ctx ends.
func (s *share) join(parent context.Context) error {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	s.cancel = cancel
	s.running.Go(func() { s.member.Run(ctx) })
	s.running.Go(func() {
		err := s.r.shared.Watch(ctx, postgres.Watcher{
			Shards: s.engines.Shards, Woken: s.engines.Wake,
			Published: func(uint64) { s.engines.EventsPublished() },
			Failed: func(err error) {
				s.r.logger.Warn("asking the store what other orchestrators have written failed; trying again",
					"error", err)
			},
		})
		if ctx.Err() == nil {
			s.r.logger.Error("this orchestrator no longer learns what others have written to the store", "error", err)
		}
	})
	select {
	case <-s.joined:
		return nil
	case <-parent.Done():
		return context.Cause(parent)
	}
}

// acquired implements cluster.Config.Acquired.
func (s *share) acquired(ctx context.Context, held *cluster.Holding) error {
	shard, err := s.r.shared.Shard(ctx, postgres.Owned{Shard: held.Shard, Epoch: held.Epoch, Member: held.Member})
	if err != nil {
		return err
	}
	var store journal.Store = shard
	if s.r.keys != nil {
		store = sealed.New(shard, s.r.keys)
	}
	d, err := s.r.newDriven(ctx, store, driving{
		shard: strconv.Itoa(held.Shard), valid: held.Valid, fenced: held.Fenced, purges: held.Shard == purgingShard,
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.driven[held] = d
	s.mu.Unlock()
	s.engines.Add(held.Shard, d.engine)
	if _, err := d.engine.Recover(ctx); err != nil {
		s.lost(held)
		return fmt.Errorf("recovering sagas: %w", err)
	}
	s.joinedOnce.Do(func() { close(s.joined) })
	return nil
}

// lost implements cluster.Config.Lost.
func (s *share) lost(held *cluster.Holding) {
	s.engines.Remove(held.Shard)
	s.mu.Lock()
	d := s.driven[held]
	delete(s.driven, held)
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), handOverTimeout)
	defer cancel()
	if !held.Valid() {
		cancel() // nothing that is under way counts any more
	}
	d.stop(ctx)
}

// leave hands all shards over.
func (s *share) leave() {
	if s.cancel != nil {
		s.cancel()
		s.running.Wait()
	}
	s.directory.Close()
}
