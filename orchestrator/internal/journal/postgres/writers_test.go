package postgres

import (
	"sync"
	"testing"
	"time"

	"github.com/treatyhq/treaty/internal/postgrestest"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/journaltest"
)

func TestWriters(t *testing.T) {
	postgrestest.Each(t, func(t *testing.T, major int) {
		database := postgrestest.DatabaseOn(t, major)
		journaltest.ExerciseWriters(t, func(t *testing.T) journaltest.Writers {
			url := newSchema(t, database)
			var shards [2]*Shard
			for n := range shards {
				shards[n] = openShard(t, url, n)
				t.Cleanup(func() { _ = shards[n].Close() })
			}
			return journaltest.Writers{
				Stores: [2]journal.Store{shards[0], shards[1]},
				Hold: func(store int) (<-chan struct{}, func()) {
					return hold(shards[store])
				},
				Blocked: func(done <-chan struct{}) bool { return blocked(t, shards[0], done) },
			}
		})
	})
}

// hold holds the next transaction with events or awaits after it has its locks.
func hold(s *Shard) (<-chan struct{}, func()) {
	held, released := make(chan struct{}), make(chan struct{})
	var once sync.Once
	s.committer.mu.Lock()
	defer s.committer.mu.Unlock()
	s.committer.locked = func() {
		once.Do(func() {
			close(held)
			<-released
		})
	}
	return held, sync.OnceFunc(func() { close(released) })
}

// blocked waits until a connection to the database waits for a lock. It returns false if done is closed before.
func blocked(t testing.TB, s *Shard, done <-chan struct{}) bool {
	t.Helper()
	for {
		var waits bool
		if err := s.pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT 1 FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock')`).Scan(&waits); err != nil {
			t.Fatal(err)
		}
		if waits {
			return true
		}
		select {
		case <-done:
			return false
		case <-time.After(time.Millisecond):
		}
	}
}
