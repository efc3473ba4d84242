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
		if err := f.Acknowledge(f.Context(), name, position, ""); err != nil {
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
	f.failsWith("acknowledge for no consumer", f.Acknowledge(f.Context(), "none", 1, ""), journal.ErrNotFound)
	for _, given := range []journal.Consumer{
		{}, {Name: "\xff"}, {Name: "three", Filter: "\xff"}, {Name: "three", Owner: "\xff"},
	} {
		_, err := f.Consumer(f.Context(), given)
		f.failsWith(fmt.Sprintf("the consumer %+v", given), err, journal.ErrInvalid)
	}

	// A consumer belongs to the first principal that is known.
	owned := func(name, by, want string) {
		f.T.Helper()
		if filters[name] == "" {
			filters[name] = "owned"
		}
		got, err := f.Consumer(f.Context(), journal.Consumer{Name: name, Filter: filters[name], Owner: by})
		if err != nil || got.Owner != want {
			f.Errorf("the consumer %s of %q belongs to %q, %v; want %q", name, by, got.Owner, err, want)
		}
	}
	owned("four", "jwt:i#ada", "jwt:i#ada")
	owned("four", "jwt:i#bob", "jwt:i#ada")
	owned("five", "local", "local")
	owned("five", "anonymous", "local")
	owned("five", "jwt:i#bob", "jwt:i#bob")
	owned("one", "jwt:i#ada", "jwt:i#ada") // it belonged to nobody
	f.reopen()
	owned("five", "local", "jwt:i#bob")
	for _, principal := range []string{"jwt:i#bob", "local", "anonymous"} {
		f.failsWith("acknowledge for another principal", f.Acknowledge(f.Context(), "four", 9, principal),
			journal.ErrForeign)
	}
	position("four", 0, 0)
	for i, principal := range []string{"", "jwt:i#ada"} {
		if err := f.Acknowledge(f.Context(), "four", uint64(9+i), principal); err != nil {
			f.Errorf("acknowledge for %q: %v", principal, err)
		}
	}
	position("four", 0, 10)
	position("one", 0, 12)

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
