package journaltest

import (
	"fmt"
	"sync"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

func consumers(f *fixture) {
	filters := make(map[string]string) // of each consumer when it was created
	position := func(name string, first, want uint64) {
		f.T.Helper()
		given := journal.Consumer{Name: name, Position: first, Filter: fmt.Sprintf("filter of %s from %d", name, first)}
		if filters[name] == "" {
			filters[name] = given.Filter
		}
		got, err := f.Consumer(f.Context(), given)
		if err != nil || got.Name != name || got.Position != want || got.Filter != filters[name] {
			f.Errorf("consumer %s is %+v, %v; want position %d and filter %q", name, got, err, want, filters[name])
		}
	}
	acknowledge := func(name string, position uint64) {
		f.T.Helper()
		if err := f.Acknowledge(f.Context(), name, position); err != nil {
			f.Errorf("acknowledge %d for %s: %v", position, name, err)
		}
	}
	position("one", 7, 7)
	position("one", 9, 7) // it exists
	position("two", 0, 0)
	acknowledge("one", 5) // before its own position
	position("one", 0, 7)
	acknowledge("one", 12)
	acknowledge("one", 12)
	f.reopen()
	position("one", 0, 12)
	position("two", 3, 0)
	f.failsWith("acknowledge for no consumer", f.Acknowledge(f.Context(), "none", 1), journal.ErrNotFound)
	for _, given := range []journal.Consumer{{}, {Name: "\xff"}, {Name: "three", Filter: "\xff"}} {
		_, err := f.Consumer(f.Context(), given)
		f.failsWith(fmt.Sprintf("the consumer %+v", given), err, journal.ErrInvalid)
	}

	// When the same consumer is created several times at once, one is created and all get it.
	var all sync.WaitGroup
	var mu sync.Mutex
	got := make(map[journal.Consumer]bool)
	for i := range 8 {
		all.Go(func() {
			given := journal.Consumer{Name: "wanted", Position: uint64(100 + i), Filter: fmt.Sprint(i)}
			found, err := f.Consumer(f.Context(), given)
			if err != nil {
				f.Errorf("consumer: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			got[found] = true
		})
	}
	all.Wait()
	if len(got) != 1 {
		f.Errorf("the calls returned %+v, want one consumer", got)
	}
}
