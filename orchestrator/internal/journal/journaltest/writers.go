package journaltest

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// Writers are two stores that write the same sagas and events at the same time, each of its own shard.
type Writers struct {
	Stores [2]journal.Store

	// Hold holds the next Append of a store in the middle of its transaction, after it has read what it needs to know.
	// The channel held is closed when it is there. It goes on when release is called.
	Hold func(store int) (held <-chan struct{}, release func())

	// Blocked waits until a transaction of a store waits for another one's. It returns false if done is closed before.
	Blocked func(done <-chan struct{}) bool
}

// ExerciseWriters runs the suite of stores that several processes write at the same time.
func ExerciseWriters(t *testing.T, open func(t *testing.T) Writers) {
	t.Helper()
	for _, one := range []struct {
		name string
		run  func(*writersFixture)
	}{
		{"positions", positionsInOrder},
		{"an await and its event", awaitAndEvent},
		{"an await and its event, the other way", eventAndAwait},
		{"an event and the end of its await", endOfAwait},
		{"side by side", writeSideBySide},
		{"the same event", sameEventTwice},
		{"the same saga", sameSagaTwice},
	} {
		t.Run(one.name, func(t *testing.T) {
			w := &writersFixture{T: t, Writers: open(t)}
			one.run(w)
		})
	}
}

type writersFixture struct {
	*testing.T
	Writers
}

// start appends in another goroutine.
func (w *writersFixture) start(store int, group ...*journal.Entry) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.append(store, group...)
	}()
	return done
}

func (w *writersFixture) append(store int, group ...*journal.Entry) {
	if err := w.Stores[store].Append(w.Context(), group); err != nil {
		w.Errorf("append: %v", err)
	}
	for _, entry := range group {
		if entry.Err != nil {
			w.Errorf("an entry of saga %q: %v", entry.Saga, entry.Err)
		}
	}
}

// sideBySide appends two groups whose transactions are open at the same time. The first one is held in the middle. The
// second one either waits for it, or is held there, too, and then ends first.
func (w *writersFixture) sideBySide(first, second *journal.Entry) {
	w.Helper()
	held, release := w.Hold(0)
	one := w.start(0, first)
	<-held
	alsoHeld, releaseSecond := w.Hold(1)
	two := w.start(1, second)
	if w.Blocked(alsoHeld) {
		release()
		<-one
		<-alsoHeld
		releaseSecond()
	} else {
		releaseSecond()
		<-two
		release()
		<-one
	}
	<-two
}

// positionsInOrder publishes in two transactions that are open at the same time, while a reader goes on from the last
// event that it has seen.
func positionsInOrder(w *writersFixture) {
	for i := range 4 {
		store, last := i%2, uint64(0)
		var seen []string
		read := func() {
			w.Helper()
			events, err := w.Stores[1].Events(w.Context(), journal.EventsParams{After: last, Limit: 100})
			if err != nil {
				w.Fatal(err)
			}
			for _, one := range events {
				last, seen = one.Position, append(seen, one.ID)
			}
		}
		read()
		seen = nil
		held, release := w.Hold(store)
		slow := w.start(store, publishing(event(verified, fmt.Sprintf("slow %d", i), "c-1", 1)))
		<-held
		quick := make(chan struct{})
		go func() {
			defer close(quick)
			w.append(1-store, publishing(event(moved, fmt.Sprintf("quick %d", i), "c-2", 2)))
		}()
		blocked := w.Blocked(quick)
		read() // a transaction that isn't committed doesn't keep readers waiting
		release()
		<-slow
		<-quick
		read()
		slices.Sort(seen)
		if want := []string{fmt.Sprintf("quick %d", i), fmt.Sprintf("slow %d", i)}; !slices.Equal(seen, want) {
			w.Errorf("the reader has seen the events %q, want %q; the second transaction waited: %t", seen, want,
				blocked)
		}
	}
}

// wakes checks that a saga is due because of an event.
func (w *writersFixture) wakes(id string) {
	w.Helper()
	due, err := w.Stores[0].Due(w.Context(), time.Now().Add(time.Hour), 100)
	if err != nil {
		w.Fatal(err)
	}
	if !slices.ContainsFunc(due, func(one journal.Due) bool { return one.Saga == id }) {
		w.Errorf("saga %s has its event, but isn't due", id)
	}
}

// awaitAndEvent awaits and publishes in two transactions that are open at the same time. The await is first.
func awaitAndEvent(w *writersFixture) {
	r := row("saga", 1)
	w.append(0, first(r))
	waits := awaiting("saga", 1, journal.Await{Type: verified, Subject: "c-1"})
	w.sideBySide(next("saga", 2, waits), publishing(event(verified, "1", "c-1", 5)))
	w.wakes("saga")
}

// eventAndAwait is like awaitAndEvent. The event is first.
func eventAndAwait(w *writersFixture) {
	r := row("saga", 1)
	w.append(0, first(r))
	waits := awaiting("saga", 1, journal.Await{Type: verified, Subject: "c-1"})
	w.Stores[0], w.Stores[1] = w.Stores[1], w.Stores[0]
	hold := w.Hold
	w.Hold = func(store int) (<-chan struct{}, func()) { return hold(1 - store) }
	w.sideBySide(publishing(event(verified, "1", "c-1", 5)), next("saga", 2, waits))
	w.Stores[0], w.Stores[1] = w.Stores[1], w.Stores[0]
	w.wakes("saga")
}

// endOfAwait publishes an event while the saga that awaits it goes on without it. The saga isn't woken any more.
func endOfAwait(w *writersFixture) {
	w.append(0, first(awaiting("saga", 1, journal.Await{Type: verified, Subject: "c-1"})))
	held, release := w.Hold(1)
	published := w.start(1, publishing(event(verified, "1", "c-1", 5)))
	<-held
	changed := w.start(0, next("saga", 2, row("saga", 2)))
	w.Blocked(changed)
	release()
	<-changed
	<-published
	due, err := w.Stores[0].Due(w.Context(), time.Now().Add(time.Hour), 100)
	if err != nil || len(due) > 0 {
		w.Errorf("due are %v, %v, but no saga awaits an event", due, err)
	}
}

// writeSideBySide publishes and awaits at both stores. At the end, exactly the sagas with an event are due.
func writeSideBySide(w *writersFixture) {
	const rounds, keys = 40, 6
	var all sync.WaitGroup
	for store := range w.Stores {
		for worker := range 2 {
			all.Go(func() {
				for round := range rounds {
					id := fmt.Sprintf("s-%d-%d-%d", store, worker, round)
					w.append(store, first(row(id, 1)))
					w.append(store,
						next(id, 2, awaiting(id, 1, journal.Await{Type: verified, Subject: fmt.Sprint(round % keys)})),
						publishing(event(verified, id, fmt.Sprint((round+store+worker)%keys), 5)))
				}
			})
		}
	}
	all.Wait()
	for _, store := range w.Stores {
		sagas, err := store.Open(w.Context(), journal.OpenParams{Limit: 1000, Which: journal.Unended})
		if err != nil || len(sagas) != 2*rounds {
			w.Fatalf("%d sagas are open, %v", len(sagas), err)
		}
		for _, saga := range sagas {
			found, _, err := store.NextEvent(w.Context(), saga.Row.ID, saga.Row.Awaits)
			if err != nil || (found != nil) != !saga.Row.Due.IsZero() {
				w.Errorf("saga %s awaits %v: the next event is %v, %v, and it is due at %v", saga.Row.ID,
					saga.Row.Awaits, found, err, saga.Row.Due)
			}
		}
	}
}

// sameEventTwice publishes the same event at both stores at the same time. It is stored once.
func sameEventTwice(w *writersFixture) {
	var events [2]*journal.Event
	var all sync.WaitGroup
	for store := range w.Stores {
		events[store] = event(verified, "1", "c-1", 1)
		all.Go(func() { w.append(store, publishing(events[store])) })
	}
	all.Wait()
	if events[0].Position == 0 || events[0].Position != events[1].Position {
		w.Errorf("the event has the positions %d and %d", events[0].Position, events[1].Position)
	}
}

// sameSagaTwice starts the same sagas at both stores at the same time. One of the starts succeeds.
func sameSagaTwice(w *writersFixture) {
	const sagas = 20
	var all sync.WaitGroup
	var groups [2][]*journal.Entry
	for store := range w.Stores {
		for i := range sagas {
			if store == 1 {
				i = sagas - 1 - i
			}
			groups[store] = append(groups[store], first(row(fmt.Sprint(i), 1)))
		}
		all.Go(func() {
			if err := w.Stores[store].Append(w.Context(), groups[store]); err != nil {
				w.Errorf("append: %v", err)
			}
		})
	}
	all.Wait()
	for i := range sagas {
		one, two := groups[0][i].Err, groups[1][sagas-1-i].Err
		if (one == nil) == (two == nil) {
			w.Errorf("the starts of saga %d returned %v and %v", i, one, two)
		}
	}
}
