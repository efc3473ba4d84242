package postgres

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/treatyhq/treaty/internal/postgrestest"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// TestWatch publishes events at one instance that sagas of other shards await: one of the same instance, and one of
// another instance. Their owners hear of them, also if every notification is lost, or if nothing is polled.
func TestWatch(t *testing.T) {
	database := postgrestest.Database(t)
	for _, test := range []struct {
		name, parameter string
		interval        time.Duration
	}{
		{"notified", "", time.Hour},
		{"polled", "&default_query_exec_mode=cache_describe", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			url := newSchema(t, database) + test.parameter
			one, other := openShard(t, url, 0), openShard(t, url, 2)
			same, err := one.Shard(t.Context(), takeShard(t, one.Database, one.owned.Member, 1))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			woken, ended := make(chan told, 10), make(chan struct{}, 2)
			newest := make(chan uint64, 100)
			for _, s := range []*Shard{one, other} {
				go func() {
					defer func() { ended <- struct{}{} }()
					_ = s.Watch(ctx, Watcher{
						Interval: test.interval,
						Shards:   func() []int { return map[bool][]int{true: {0, 1}, false: {2}}[s == one] },
						Woken: func(shard int, sagas []string) {
							for _, saga := range sagas {
								woken <- told{shard, saga}
							}
						},
						Published: func(position uint64) {
							if s == other {
								newest <- position
							}
						},
						Failed: func(err error) { t.Errorf("watch: %v", err) },
					})
				}()
			}
			wait := func(shard *Shard, id string) {
				t.Helper()
				start := startOf(id)
				start.Row.Waiting = true
				start.Row.Awaits = []journal.Await{{Type: "acme.identity.v1.Verified", Subject: "c-1"}}
				if err := shard.Append(t.Context(), []*journal.Entry{start}); err != nil || start.Err != nil {
					t.Fatal(err, start.Err)
				}
			}
			wait(one, "own")
			wait(same, "same")
			wait(other, "other")
			publish := eventOf("e")
			if err := one.Append(t.Context(), []*journal.Entry{publish}); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(publish.Woken, []string{"own"}) {
				t.Errorf("the entry woke %q, want only that of its shard", publish.Woken)
			}
			got := []told{<-woken, <-woken}
			slices.SortFunc(got, func(a, b told) int { return a.shard - b.shard })
			if want := []told{{1, "same"}, {2, "other"}}; !slices.Equal(got, want) {
				t.Errorf("woken are %v, want %v", got, want)
			}
			for position := uint64(0); position < publish.Events[0].Position; {
				position = <-newest
			}
			cancel()
			<-ended
			<-ended
			if one.Size().File == 0 {
				t.Error("the size isn't known")
			}
			for _, s := range []*Shard{one, other} {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
