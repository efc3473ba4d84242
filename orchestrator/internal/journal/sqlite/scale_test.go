package sqlite

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// crowded returns a store with sagas that wait for an event each, and sagas that have ended and are kept.
func crowded(b *testing.B, waiting, kept int) *Store {
	b.Helper()
	store := openAt(b, filepath.Join(b.TempDir(), "sagas.db"))
	b.Cleanup(func() {
		if err := store.Close(); err != nil {
			b.Error(err)
		}
	})
	fill := func(sql string, args ...any) {
		b.Helper()
		if err := store.writer.conn.Exec(fmt.Sprintf(sql, args...)); err != nil {
			b.Fatal(err)
		}
	}
	fill(`INSERT INTO definitions VALUES (1, 'X/Kept'), (2, 'X/Waiting'); INSERT INTO event_types VALUES (1, 'T')`)
	fill(`WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < %d)
		INSERT INTO sagas (key, id, definition, state, create_time, update_time, end_time)
		SELECT i, 'kept' || i, 1, 4, 1, 1, i FROM n`, kept)
	fill(`WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < %d)
		INSERT INTO sagas (key, id, definition, state, create_time, update_time, waiting)
		SELECT i + %d, 'waits' || i, 2, 1, 1, i, 1 FROM n`, waiting, kept)
	fill(`INSERT INTO turns (position, data) SELECT key << 24 | 1, x'00' FROM sagas`)
	fill(`INSERT INTO awaits SELECT key, 0, 1, id, 0 FROM sagas WHERE waiting = 1`)
	store.writer.nextKey = int64(kept+waiting) + 1
	return store
}

// The sizes of the store in benchmarks.
const (
	crowdWaiting = 100_000
	crowdKept    = 200_000
)

// BenchmarkOpenBesideWaiting opens one driven saga among many that wait.
func BenchmarkOpenBesideWaiting(b *testing.B) {
	store := crowded(b, crowdWaiting, crowdKept)
	row := &journal.Row{ID: "driven", State: treatyv1.SagaState_SAGA_STATE_RUNNING}
	group := []*journal.Entry{{Saga: "driven", Turn: 1, Row: row}}
	if err := store.Append(b.Context(), group); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if open, err := store.Open(b.Context(), journal.OpenParams{Limit: 100}); err != nil || len(open) != 1 {
			b.Fatal(len(open), err)
		}
	}
}

// BenchmarkWake publishes events in groups. Each event wakes one of many sagas that wait.
func BenchmarkWake(b *testing.B) {
	store := crowded(b, crowdWaiting, crowdKept)
	published := 0
	group := make([]*journal.Entry, benchGroup)
	for b.Loop() {
		for i := range group {
			published++
			subject := fmt.Sprintf("waits%d", published%crowdWaiting+1)
			group[i] = &journal.Entry{Events: []*journal.Event{{
				Source: "bench", ID: fmt.Sprint(published), Type: "T", Subject: subject, StoreTime: time.Unix(1, 0),
				Data: make([]byte, 100),
			}}}
		}
		if err := store.Append(b.Context(), group); err != nil {
			b.Fatal(err)
		}
		for _, entry := range group {
			if len(entry.Woken) != 1 {
				b.Fatalf("the event woke %q, want one saga", entry.Woken)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*benchGroup), "µs/event")
}

// BenchmarkPurgeBesideKept purges sagas of one definition among many of another. A purge without sagas to delete is
// free.
func BenchmarkPurgeBesideKept(b *testing.B) {
	store := crowded(b, crowdWaiting, crowdKept)
	row := &journal.Row{
		Definition: "X/Dropped", State: treatyv1.SagaState_SAGA_STATE_SUCCEEDED, EndTime: time.Unix(1, 0),
		Labels: map[string]string{"label": "value"},
	}
	params := journal.PurgeParams{
		Definitions: []string{"X/Waiting", "X/Dropped"}, EndedBefore: time.Unix(2, 0), Limit: 10_000,
	}
	group := make([]*journal.Entry, benchGroup)
	for b.Loop() {
		b.StopTimer()
		for i := range group {
			one := *row
			one.ID = fmt.Sprint(i)
			group[i] = &journal.Entry{Saga: one.ID, Turn: 1, Row: &one}
		}
		if err := store.Append(b.Context(), group); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if n, err := store.Purge(b.Context(), params); err != nil || n != benchGroup {
			b.Fatal(n, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*benchGroup), "µs/saga")
}

// BenchmarkPublish publishes events in groups. No saga awaits them.
func BenchmarkPublish(b *testing.B) {
	s := newBench(b)
	published := 0
	group := make([]*journal.Entry, benchGroup)
	for b.Loop() {
		for i := range group {
			published++
			id := fmt.Sprint(published)
			group[i] = &journal.Entry{Events: []*journal.Event{{
				Source: "sagas/" + id + "/steps/1", ID: "reply", Type: "acme.identity.v1.Verified", Subject: id,
				StoreTime: time.Unix(1, 0), Data: s.data,
			}}}
		}
		if err := s.store.Append(b.Context(), group); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*benchGroup), "µs/event")
	b.ReportMetric(s.size()/float64(published), "B/event")
}
