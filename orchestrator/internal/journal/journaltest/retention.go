package journaltest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

func consumers(f *fixture) {
	filters := make(map[string]string) // that each was made with
	position := func(name string, first, want uint64) {
		f.T.Helper()
		given := journal.Consumer{Name: name, Position: first, Filter: fmt.Sprintf("what %s began with at %d", name, first)}
		if got, err := f.Consumer(f.Context(), given); err != nil || got.Name != name || got.Position != want || got.Filter != filters[name] && filters[name] != "" {
			f.Errorf("consumer %s is %+v, %v; want position %d and filter %q", name, got, err, want, filters[name])
		} else {
			filters[name] = got.Filter
		}
	}
	acknowledge := func(name string, position uint64) {
		f.T.Helper()
		if err := f.Acknowledge(f.Context(), name, position); err != nil {
			f.Errorf("acknowledge %d for %s: %v", position, name, err)
		}
	}
	position("one", 7, 7)
	position("one", 9, 7) // it is known
	position("two", 0, 0)
	acknowledge("one", 5) // behind its own
	position("one", 0, 7)
	acknowledge("one", 12)
	acknowledge("one", 12)
	f.reopen()
	position("one", 0, 12)
	position("two", 3, 0)
	f.failsWith("acknowledge for nobody", f.Acknowledge(f.Context(), "nobody", 1), journal.ErrNotFound)
	for _, given := range []journal.Consumer{{}, {Name: "\xff"}, {Name: "three", Filter: "\xff"}} {
		_, err := f.Consumer(f.Context(), given)
		f.failsWith(fmt.Sprintf("the consumer %+v", given), err, journal.ErrInvalid)
	}

	// Of those who make the same consumer at the same time, one does.
	var all sync.WaitGroup
	var mu sync.Mutex
	got := make(map[journal.Consumer]bool)
	for i := range 8 {
		all.Go(func() {
			found, err := f.Consumer(f.Context(), journal.Consumer{Name: "wanted", Position: uint64(100 + i), Filter: fmt.Sprint(i)})
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
		f.Errorf("one consumer is %+v", got)
	}
}

func purgeEvents(f *fixture) {
	purge := func(before time.Time, limit, want int) {
		f.T.Helper()
		if got, err := f.PurgeEvents(f.Context(), before, limit); err != nil || got != want {
			f.Errorf("of what was published before %v, %d at the most: %d were purged, %v; want %d", before, limit, got, err, want)
		}
	}
	purge(minute(59), 10, 0)
	var events []*journal.Event
	for i := range 6 {
		events = append(events, event(verified, fmt.Sprint(i), "c-1", i))
	}
	events[3].StoreTime = minute(1) // behind one that was published later: the clock was set back
	f.write(publishing(events...))
	f.write(first(awaiting("waits", 1, journal.Await{Type: verified, Subject: "c-1"})))
	purge(minute(0), 10, 0)
	purge(minute(2), 1, 1)
	f.hasEvents(events[1:]...)
	purge(minute(2), 10, 1)
	f.hasEvents(events[2:]...)
	purge(minute(2).Add(time.Microsecond), 10, 2)
	f.hasEvents(events[4:]...)
	purge(minute(59), 10, 1)
	f.hasEvents(events[5:]...) // the newest is kept
	purge(minute(59), 10, 0)
	f.reopen()
	oldest, newest, err := f.EventRange(f.Context())
	if err != nil || oldest != events[5].Position || newest != events[5].Position {
		f.Errorf("the range is %d to %d, %v; want %d", oldest, newest, err, events[5].Position)
	}

	// What is gone is published as new, behind what was there.
	again := event(verified, "0", "c-1", 7)
	entry := publishing(again)
	f.write(entry)
	f.woke(entry, "waits")
	if again.Position <= events[5].Position {
		f.Errorf("an event has the position %d, one before it had %d", again.Position, events[5].Position)
	}
	for _, limit := range []int{0, -1} {
		_, err := f.PurgeEvents(f.Context(), minute(1), limit)
		f.failsWith("purge events", err, journal.ErrInvalid)
	}
}

func purge(f *fixture) {
	const kept, dropped, alsoDropped = "acme.v1.Sagas/Kept", "acme.v1.Sagas/Dropped", "acme.v1.Sagas/AlsoDropped"
	end := func(id, definition string, at int) {
		r := row(id, 0)
		r.Definition, r.Labels = definition, map[string]string{"customer": "c-1", "card": id}
		f.write(first(r))
		r.State, r.UpdateTime, r.EndTime = succeeded, minute(at), minute(at)
		if at%2 == 0 {
			r.State = compensated
		}
		f.write(next(id, 2, r))
	}
	for i := range 10 {
		end(fmt.Sprintf("kept %d", i), kept, i)
		end(fmt.Sprintf("dropped %d", i), dropped, i)
		end(fmt.Sprintf("also %d", i), alsoDropped, i)
	}
	for _, state := range states[:3] {
		r := row("open "+state.String(), 0)
		r.Definition, r.State, r.EndTime = dropped, state, minute(1) // whatever its row says
		f.write(first(r))
	}
	endless := row("endless", 0)
	endless.Definition, endless.State = dropped, succeeded
	f.write(first(endless))

	params := journal.PurgeParams{Definitions: []string{dropped, "acme.v1.Sagas/None", alsoDropped}, EndedBefore: minute(5), Limit: 3}
	total := 0
	for _, want := range []int{3, 3, 3, 1, 0} {
		got, err := f.Purge(f.Context(), params)
		if err != nil || got != want {
			f.Errorf("%d were purged, %v; want %d", got, err, want)
		}
		total += got
	}
	if got, err := f.Purge(f.Context(), journal.PurgeParams{EndedBefore: minute(59), Limit: 3}); err != nil || got != 0 {
		f.Errorf("of no definition %d were purged, %v", got, err)
	}
	f.reopen()
	var want []string
	for i := range 10 {
		want = append(want, fmt.Sprintf("kept %d", i))
		if i >= 5 {
			want = append(want, fmt.Sprintf("dropped %d", i), fmt.Sprintf("also %d", i))
		}
	}
	labelled := f.list(journal.ListParams{
		Filter: &journal.Filter{Op: journal.Equal, Field: journal.FieldLabel, Label: "customer", Text: "c-1"}, Limit: 100,
	})
	if got := idsOf(labelled); fmt.Sprint(slices.Sorted(slices.Values(got))) != fmt.Sprint(slices.Sorted(slices.Values(want))) {
		f.Errorf("left are %q, want %q", got, want)
	}
	if rows := f.list(journal.ListParams{Limit: 100}); len(rows) != len(want)+4 || total != 10 {
		f.Errorf("%d sagas are left, want %d; %d were purged", len(rows), len(want)+4, total)
	}

	// An id that is gone is as good as new, for all that was there before.
	_, err := f.Load(f.Context(), "dropped 1")
	f.failsWith("load what was purged", err, journal.ErrNotFound)
	late := next("dropped 1", 3, nil)
	f.append(late)
	f.failsWith("a turn of what was purged", late.Err, journal.ErrConflict)
	again := row("dropped 1", 9)
	f.write(first(again))
	f.write(next("dropped 1", 2, nil))
	f.holds(journalOf(again, 2))
	for _, limit := range []int{0, -1} {
		_, err := f.Purge(f.Context(), journal.PurgeParams{Definitions: []string{dropped}, EndedBefore: minute(1), Limit: limit})
		f.failsWith("purge", err, journal.ErrInvalid)
	}
}

// purgeRemembered purges sagas some of whose ids no other saga may have.
func purgeRemembered(f *fixture) {
	for _, id := range []string{"r-1", "r-2", "s-1"} {
		r := row(id, 0)
		r.State, r.EndTime = succeeded, minute(1)
		f.write(first(r))
	}
	params := journal.PurgeParams{
		Definitions: []string{row("", 0).Definition}, EndedBefore: minute(2), Limit: 10,
		Remember: func(id string) bool { return strings.HasPrefix(id, "r-") },
	}
	if n, err := f.Purge(f.Context(), params); err != nil || n != 3 {
		f.Errorf("%d were purged, %v; want 3", n, err)
	}
	for range 2 {
		again, fresh := first(row("r-1", 3)), first(row("r-3", 3))
		f.append(again, fresh)
		f.failsWith("a start with a remembered id", again.Err, journal.ErrPurged)
		if fresh.Err != nil && !errors.Is(fresh.Err, journal.ErrExists) {
			f.Errorf("a start beside it: %v", fresh.Err)
		}
		_, err := f.Get(f.Context(), "r-1")
		f.failsWith("get of what was purged", err, journal.ErrNotFound)
		late := next("r-1", 2, nil)
		f.append(late)
		f.failsWith("a turn of what was purged", late.Err, journal.ErrConflict)
		f.reopen()
	}
	f.write(first(row("s-1", 3))) // wasn't remembered
}

// purgeMany purges more than fits into one transaction, while others write.
func purgeMany(f *fixture) {
	const sagas = 500
	var group []*journal.Entry
	for i := range sagas {
		r := row(fmt.Sprintf("s-%d", i), 1)
		r.State, r.EndTime = succeeded, minute(i%50)
		group = append(group, first(r))
	}
	f.write(group...)
	f.write(first(row("open", 1)))
	var all sync.WaitGroup
	all.Go(func() {
		for turn := uint64(2); turn <= 20; turn++ {
			entry := next("open", turn, nil)
			if err := f.Append(f.Context(), []*journal.Entry{entry}); err != nil || entry.Err != nil {
				f.Errorf("append: %v, %v", err, entry.Err)
			}
		}
	})
	got, err := f.Purge(f.Context(), journal.PurgeParams{Definitions: []string{group[0].Row.Definition}, EndedBefore: minute(59), Limit: sagas - 1})
	if err != nil || got != sagas-1 {
		f.Errorf("%d were purged, %v; want %d", got, err, sagas-1)
	}
	all.Wait()
	if rows := f.list(journal.ListParams{Limit: 100}); len(rows) != 2 {
		f.Errorf("%d sagas are left, want 2", len(rows))
	}
	f.holds(journalOf(row("open", 1), 20))
}

// openAnew restarts sagas: their earlier turns are gone.
func openAnew(f *fixture) {
	r := row("one", 1)
	r.Labels = map[string]string{"customer": "c-1"}
	f.write(first(r), first(row("other", 1)))
	for turn := uint64(2); turn <= 5; turn++ {
		f.write(next("one", turn, nil), next("other", turn, nil))
	}
	ends := *r
	ends.State, ends.EndTime, ends.UpdateTime = succeeded, minute(6), minute(6)
	f.write(next("one", 6, &ends))
	r.UpdateTime = minute(7)
	anew := next("one", 7, r)
	anew.First = true
	f.write(anew)
	since := func(first, last uint64) *journal.Journal {
		want := journalOf(r, last)
		want.Turns = want.Turns[first-1:]
		return want
	}
	f.holds(since(7, 7))
	f.write(next("one", 8, nil))
	f.reopen()
	f.write(next("one", 9, nil))
	f.holds(since(7, 9))
	f.holds(journalOf(row("other", 1), 5))
	for after, want := range map[uint64][]journal.Turn{0: since(7, 8).Turns, 6: since(7, 8).Turns, 7: since(8, 9).Turns, 8: since(9, 9).Turns, 9: nil} {
		got, err := f.Turns(f.Context(), "one", after, 2)
		if err != nil {
			f.Fatal(err)
		}
		f.sameTurns(got, want)
	}
	open, err := f.Open(f.Context(), journal.OpenParams{Limit: 1})
	if err != nil || len(open) != 1 {
		f.Fatalf("open: %v, %v", open, err)
	}
	f.sameJournal(open[0], since(7, 9))

	// Again, and one that is refused.
	gap := next("one", 11, r)
	gap.First = true
	f.append(gap)
	f.failsWith("a gap", gap.Err, journal.ErrConflict)
	f.holds(since(7, 9))
	anew = next("one", 10, r)
	anew.First = true
	f.write(anew)
	f.holds(since(10, 10))
}

// openWaiting tells sagas that wait from those that are driven.
func openWaiting(f *fixture) {
	ids := func(which journal.OpenSagas, after string, limit int) []string {
		f.T.Helper()
		open, err := f.Open(f.Context(), journal.OpenParams{After: after, Limit: limit, Which: which})
		if err != nil {
			f.Fatal(err)
		}
		got := []string{}
		for _, one := range open {
			got = append(got, one.Row.ID)
			if one.Err != nil || len(one.Turns) == 0 {
				f.Errorf("saga %s has %d turns, %v", one.Row.ID, len(one.Turns), one.Err)
			}
		}
		return got
	}
	var unended, driven []string
	for i, state := range states {
		for _, waiting := range []bool{false, true} {
			r := row(fmt.Sprintf("%d %t", i, waiting), 1)
			r.State, r.Waiting = state, waiting
			f.write(first(r))
			got, err := f.Get(f.Context(), r.ID)
			if err != nil {
				f.Fatal(err)
			}
			f.sameRow(got, r)
			if !journal.Final(state) {
				unended = append(unended, r.ID)
			}
			if !waiting && (state == running || state == compensating) {
				driven = append(driven, r.ID)
			}
		}
	}
	same := func(got, want []string) {
		f.T.Helper()
		if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
			f.Errorf("open are %q, want %q", got, want)
		}
	}
	same(ids(journal.Driven, "", 100), driven)
	same(ids(journal.Unended, "", 100), unended)
	same(ids(journal.Unended, unended[1], 2), unended[2:4])
	same(ids(journal.Driven, driven[0], 2), driven[1:])

	// It waits, and is driven again.
	r := awaiting(driven[0], 1, journal.Await{Type: verified, Subject: "c-1"})
	f.write(next(r.ID, 2, r))
	same(ids(journal.Driven, "", 100), driven[1:])
	f.write(next(r.ID, 3, nil))
	same(ids(journal.Driven, "", 100), driven[1:])
	if rows := f.list(journal.ListParams{Limit: 1}); !rows[0].Waiting || rows[0].Awaits != nil {
		f.Errorf("listed is %+v", rows[0])
	}
	got, err := f.Get(f.Context(), r.ID)
	if err != nil || !got.Waiting || got.Awaits != nil {
		f.Errorf("got %+v, %v", got, err)
	}
	f.write(next(r.ID, 4, row(r.ID, 1)))
	same(ids(journal.Driven, "", 100), driven)
	_, err = f.Open(f.Context(), journal.OpenParams{Limit: 1, Which: 7})
	f.failsWith("open of an unknown choice", err, journal.ErrInvalid)
}
