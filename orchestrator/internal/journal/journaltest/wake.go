package journaltest

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// wakeByEvent publishes events that sagas already await.
func wakeByEvent(f *fixture) {
	await, never := journal.Await{Type: verified, Subject: "c-1"}, time.Time{}
	otherType := journal.Await{Type: moved, Subject: "c-1"}
	otherSubject := journal.Await{Type: verified, Subject: "c-11"}
	later := journal.Await{Type: verified, Subject: "c-1", After: 1 << 40}
	sagas := map[string]struct {
		row  *journal.Row
		due  time.Time // before the event
		want time.Time // after it
	}{
		"no timer":     {awaiting("no timer", 1, await), never, minute(5)},
		"late timer":   {awaiting("late timer", 1, await), minute(9), minute(5)},
		"early timer":  {awaiting("early timer", 1, await), minute(2), minute(2)},
		"second await": {awaiting("second await", 1, otherType, await, await), never, minute(5)},
		"busy":         {awaiting("busy", 1, await), never, minute(5)},
		"compensating": {awaiting("compensating", 1, await), never, never},
		"suspended":    {awaiting("suspended", 1, await), minute(9), minute(9)},
		"other type":   {awaiting("other type", 1, otherType), never, never},
		"other subj":   {awaiting("other subj", 1, otherSubject), never, never},
		"later":        {awaiting("later", 1, later), never, never},
		"no awaits":    {awaiting("no awaits", 1), minute(9), minute(9)},
	}
	for id, saga := range sagas {
		saga.row.Due = saga.due
		switch id {
		case "busy":
			saga.row.Waiting = false
		case "compensating":
			saga.row.State = compensating
		case "suspended":
			saga.row.State = suspended
		}
		entry := first(saga.row)
		f.write(entry)
		f.woke(entry)
		f.holds(journalOf(saga.row, 1)) // with its awaits, in order
	}
	gone := awaiting("gone", 1, await)
	f.write(first(gone))
	gone.Awaits = nil
	f.write(next("gone", 2, gone)) // without awaits
	f.reopen()

	entry := publishing(event(verified, "1", "c-1", 5), event(verified, "2", "c-1", 6))
	other := publishing(event(moved, "3", "c-2", 5))
	f.write(other, entry)
	f.woke(other)
	f.woke(entry, "busy", "early timer", "late timer", "no timer", "second await")
	for _, saga := range sagas {
		saga.row.Due = saga.want
		f.holds(journalOf(saga.row, 1))
	}
	f.holds(journalOf(gone, 2))
	again := publishing(event(verified, "1", "c-1", 5))
	f.write(again)
	f.woke(again) // the event isn't new

	due, err := f.Due(f.Context(), minute(5), 10)
	if err != nil {
		f.Fatal(err)
	}
	want := []string{"early timer", "busy", "late timer", "no timer", "second await"}
	var got []string
	for _, one := range due {
		got = append(got, one.Saga)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		f.Errorf("due are %q, want %q", got, want)
	}
}

// wakeByAwait awaits events that are already published.
func wakeByAwait(f *fixture) {
	await := journal.Await{Type: verified, Subject: "c-1"}
	later := journal.Await{Type: verified, Subject: "c-1", After: 1 << 40}
	before := event(verified, "before", "c-1", 1)
	f.write(publishing(before))
	for id, test := range map[string]struct {
		state treatyv1.SagaState
		due   time.Time
		wait  journal.Await
		want  time.Time
	}{
		"no timer":     {running, time.Time{}, await, minute(5)},
		"late timer":   {running, minute(9), await, minute(5)},
		"early timer":  {running, minute(2), await, minute(2)},
		"compensating": {compensating, time.Time{}, await, time.Time{}},
		"other type":   {running, time.Time{}, journal.Await{Type: moved, Subject: "c-1"}, time.Time{}},
		"later":        {running, time.Time{}, later, time.Time{}},
	} {
		r := awaiting(id, 1)
		f.write(first(r))
		f.write(publishing(event(verified, id, "c-1", 3)))
		r.State, r.Due, r.UpdateTime, r.Awaits = test.state, test.due, minute(5), []journal.Await{test.wait}
		entry := next(id, 2, r)
		f.write(entry)
		if r.Due != test.due {
			f.Errorf("%s: Append changed the row", id)
		}
		if test.state == running && test.want != (time.Time{}) {
			f.woke(entry, id)
		} else {
			f.woke(entry)
		}
		r.Due = test.want
		f.holds(journalOf(r, 2))

		// A turn without a row changes nothing. A row replaces everything.
		f.write(next(id, 3, nil))
		f.holds(journalOf(r, 3))
		r.State, r.Awaits, r.Due = running, nil, minute(20)
		f.write(next(id, 4, r))
		f.holds(journalOf(r, 4))
	}

	// An event that was published before a saga was created never counts for it.
	created := awaiting("created late", 6, await)
	entry := first(created)
	f.write(entry)
	f.woke(entry)
	f.holds(journalOf(created, 1))
	r := awaiting("created late", 6, await, journal.Await{Type: verified, Subject: "c-1", After: before.Position})
	entry = next("created late", 2, r)
	f.write(entry)
	f.woke(entry)
	f.holds(journalOf(r, 2))
}

// wakeInGroup appends events and awaits in one group.
func wakeInGroup(f *fixture) {
	await := journal.Await{Type: verified, Subject: "c-1"}
	early, late, starts, own := row("early", 1), row("late", 1), awaiting("starts", 1, await), row("own", 1)
	f.write(first(early), first(late), first(own))
	waits := func(r *journal.Row) *journal.Entry {
		r.Waiting, r.Awaits, r.UpdateTime = true, []journal.Await{await}, minute(4)
		return next(r.ID, 2, r)
	}
	earlyEntry, lateEntry, startsEntry := waits(early), waits(late), first(starts)
	publishes := publishing(event(verified, "1", "c-1", 5))
	f.write(earlyEntry, publishes, lateEntry, startsEntry)
	f.woke(earlyEntry)
	f.woke(publishes, "early")
	f.woke(lateEntry, "late")
	f.woke(startsEntry) // it was created after the event
	early.Due, late.Due = minute(5), minute(4)
	f.holds(journalOf(early, 2))
	f.holds(journalOf(late, 2))
	f.holds(journalOf(starts, 1))

	// A saga awaits the event of its own entry.
	ownEntry := waits(own)
	own.Awaits[0].After = publishes.Events[0].Position
	ownEntry.Events = []*journal.Event{event(verified, "2", "c-1", 6)}
	f.write(ownEntry)
	f.woke(ownEntry, "early", "late", "own", "starts")
	own.Due = minute(6)
	f.holds(journalOf(own, 2))
	starts.Due = minute(6)
	f.holds(journalOf(starts, 1))
	born := awaiting("born", 1, await)
	bornEntry := first(born)
	bornEntry.Events = []*journal.Event{event(verified, "3", "c-1", 1)}
	f.write(bornEntry)
	f.woke(bornEntry, "born", "early", "late", "own", "starts")
	born.Due = minute(1)
	f.holds(journalOf(born, 1))
}

func nextEvent(f *fixture) {
	one, two, three := event(verified, "1", "c-1", 1), event(moved, "2", "c-1", 2), event(verified, "3", "c-1", 3)
	f.write(publishing(event(verified, "0", "c-1", 0)))
	f.write(first(row("saga", 1)))
	f.write(publishing(one, two, three))
	f.write(first(row("late", 1)))
	v, m := journal.Await{Type: verified, Subject: "c-1"}, journal.Await{Type: moved, Subject: "c-1"}
	none := journal.Await{Type: moved, Subject: "c-2"}
	after := func(await journal.Await, position uint64) journal.Await {
		await.After = position
		return await
	}
	for name, test := range map[string]struct {
		saga   string
		awaits []journal.Await
		want   *journal.Event
		index  int
	}{
		"one":                  {"saga", []journal.Await{v}, one, 0},
		"the earliest":         {"saga", []journal.Await{m, v}, one, 1},
		"the first await":      {"saga", []journal.Await{m, v, v}, one, 1},
		"after one":            {"saga", []journal.Await{none, after(v, one.Position), m}, two, 2},
		"after two":            {"saga", []journal.Await{after(v, two.Position), after(m, two.Position)}, three, 0},
		"after all":            {"saga", []journal.Await{after(v, three.Position), after(m, 1<<63), none}, nil, 0},
		"none":                 {"saga", nil, nil, 0},
		"no such type":         {"saga", []journal.Await{{Type: "acme.None", Subject: "c-1"}}, nil, 0},
		"a saga created later": {"late", []journal.Await{v, m}, nil, 0},
	} {
		got, index, err := f.NextEvent(f.Context(), test.saga, test.awaits)
		switch {
		case err != nil:
			f.Errorf("%s: %v", name, err)
		case test.want == nil && got != nil:
			f.Errorf("%s: got %+v, want none", name, got)
		case test.want != nil && got == nil:
			f.Errorf("%s: got none", name)
		case got != nil:
			f.sameEvents(name, []*journal.Event{got}, test.want)
			if index != test.index {
				f.Errorf("%s: it ends await %d, want %d", name, index, test.index)
			}
		}
	}
	_, _, err := f.NextEvent(f.Context(), "none", []journal.Await{v})
	f.failsWith("the next event of a saga that doesn't exist", err, journal.ErrNotFound)
}

// wakeConcurrently publishes and awaits events concurrently, in random groups. At the end, exactly the sagas with an
// event are due.
func wakeConcurrently(f *fixture) {
	const workers, rounds, keys = 4, 40, 12
	subject := func(key int) string { return fmt.Sprintf("c-%d", key) }
	var all sync.WaitGroup
	var mu sync.Mutex
	woken := make(map[string]bool)
	for worker := range workers {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(worker), 9))
			for round := range rounds {
				var group []*journal.Entry
				for i := range 1 + random.IntN(3) {
					// A saga waits in its second turn, so that an event may come between the two.
					r := row(fmt.Sprintf("s-%d-%d-%d", worker, round, i), 1)
					group = append(group, first(r))
				}
				if err := f.Append(f.Context(), group); err != nil {
					f.Errorf("append: %v", err)
					return
				}
				starts := group
				group = nil
				for _, start := range starts {
					r := awaiting(start.Saga, 1,
						journal.Await{Type: verified, Subject: subject(random.IntN(keys))},
						journal.Await{Type: moved, Subject: subject(random.IntN(keys))})
					group = append(group, next(r.ID, 2, r))
				}
				for i := range random.IntN(3) {
					kind := []string{verified, moved}[random.IntN(2)]
					id := fmt.Sprintf("e-%d-%d-%d", worker, round, i)
					group = append(group, publishing(event(kind, id, subject(random.IntN(keys)), 5)))
				}
				random.Shuffle(len(group), func(i, j int) { group[i], group[j] = group[j], group[i] })
				if err := f.Append(f.Context(), group); err != nil {
					f.Errorf("append: %v", err)
					return
				}
				mu.Lock()
				for _, entry := range group {
					for _, id := range entry.Woken {
						woken[id] = true
					}
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	sagas, err := f.Open(f.Context(), journal.OpenParams{Limit: 10000, Which: journal.Unended})
	if err != nil {
		f.Fatal(err)
	}
	wakes := 0
	for _, saga := range sagas {
		found, _, err := f.NextEvent(f.Context(), saga.Row.ID, saga.Row.Awaits)
		if err != nil {
			f.Fatal(err)
		}
		if due := !saga.Row.Due.IsZero(); due != (found != nil) || due != woken[saga.Row.ID] {
			f.Errorf("saga %s awaits %v: the next event is %v, it is due at %v, and Woken had it: %t",
				saga.Row.ID, saga.Row.Awaits, found, saga.Row.Due, woken[saga.Row.ID])
		}
		if found != nil {
			wakes++
		}
	}
	if wakes == 0 || wakes == len(sagas) {
		f.Errorf("of %d sagas, %d were woken; the test needs some that were and some that weren't", len(sagas), wakes)
	}
}
