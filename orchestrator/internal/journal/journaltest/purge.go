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

func purgeEvents(f *fixture) {
	purge := func(before time.Time, limit, want int) {
		f.T.Helper()
		if got, err := f.PurgeEvents(f.Context(), before, limit); err != nil || got != want {
			f.Errorf("purge events before %v with limit %d: %d, %v; want %d", before, limit, got, err, want)
		}
	}
	purge(minute(59), 10, 0)
	var events []*journal.Event
	for i := range 6 {
		events = append(events, event(verified, fmt.Sprint(i), "c-1", i))
	}
	events[3].StoreTime = minute(1) // the clock was set back
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
	f.hasEvents(events[5:]...) // the newest stays
	purge(minute(59), 10, 0)
	f.reopen()
	oldest, newest, err := f.EventRange(f.Context())
	if err != nil || oldest != events[5].Position || newest != events[5].Position {
		f.Errorf("the range is %d to %d, %v; want %d", oldest, newest, err, events[5].Position)
	}

	// An event whose id was purged too can be published again, with a greater position.
	if _, err := f.PurgeEventIDs(f.Context(), minute(59), 100); err != nil {
		f.Error(err)
	}
	again := event(verified, "0", "c-1", 7)
	entry := publishing(again)
	f.write(entry)
	f.woke(entry, "waits")
	if again.Position <= events[5].Position {
		f.Errorf("the event has the position %d, one before has %d", again.Position, events[5].Position)
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
		r.Definition, r.State, r.EndTime = dropped, state, minute(1) // only the state counts
		f.write(first(r))
	}
	endless := row("endless", 0)
	endless.Definition, endless.State = dropped, succeeded
	f.write(first(endless))

	params := journal.PurgeParams{
		Definitions: []string{dropped, "acme.v1.Sagas/None", alsoDropped}, EndedBefore: minute(5), Limit: 3,
	}
	total := 0
	for _, want := range []int{3, 3, 3, 1, 0} {
		got, err := f.Purge(f.Context(), params)
		if err != nil || got != want {
			f.Errorf("%d sagas were purged, %v; want %d", got, err, want)
		}
		total += got
	}
	none := journal.PurgeParams{EndedBefore: minute(59), Limit: 3}
	if got, err := f.Purge(f.Context(), none); err != nil || got != 0 {
		f.Errorf("%d sagas of no definition were purged, %v", got, err)
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
		Filter: labelLeaf(journal.Equal, "customer", "c-1"), Limit: 100,
	})
	got := idsOf(labelled)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		f.Errorf("the sagas %q are left, want %q", got, want)
	}
	if rows := f.list(journal.ListParams{Limit: 100}); len(rows) != len(want)+4 || total != 10 {
		f.Errorf("%d sagas are left, want %d; %d were purged", len(rows), len(want)+4, total)
	}

	// The id of a purged saga can be used again.
	_, err := f.Load(f.Context(), "dropped 1")
	f.failsWith("load a purged saga", err, journal.ErrNotFound)
	late := next("dropped 1", 3, nil)
	f.append(late)
	f.failsWith("a turn of a purged saga", late.Err, journal.ErrConflict)
	again := row("dropped 1", 9)
	f.write(first(again))
	f.write(next("dropped 1", 2, nil))
	f.holds(journalOf(again, 2))
	for _, limit := range []int{0, -1} {
		params.Limit = limit
		_, err := f.Purge(f.Context(), params)
		f.failsWith("purge", err, journal.ErrInvalid)
	}
}

// purgeRemembered purges sagas, some of whose ids are remembered.
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
			f.Errorf("another start in the same group: %v", fresh.Err)
		}
		_, err := f.Get(f.Context(), "r-1")
		f.failsWith("get a purged saga", err, journal.ErrNotFound)
		late := next("r-1", 2, nil)
		f.append(late)
		f.failsWith("a turn of a purged saga", late.Err, journal.ErrConflict)
		f.reopen()
	}
	f.write(first(row("s-1", 3))) // this id isn't remembered
}

// purgeRememberedIDs purges the ids of sagas that ended long ago.
func purgeRememberedIDs(f *fixture) {
	end := func(id string, at int, parent journal.Parent) {
		r := row(id, 0)
		r.State, r.EndTime, r.Parent = succeeded, minute(at), parent
		f.write(first(r))
	}
	end("r-1", 1, journal.Parent{})
	end("r-2", 2, journal.Parent{})
	end("r-3", 2, journal.Parent{})
	end("r-4", 9, journal.Parent{})
	end("child of an old parent", 1, journal.Parent{Saga: "parent"})
	end("child", 1, journal.Parent{Scope: "x/0", Saga: "parent", Start: minute(0)})
	if n, err := f.Purge(f.Context(), journal.PurgeParams{
		Definitions: []string{row("", 0).Definition}, EndedBefore: minute(59), Limit: 10,
		Remember: func(string) bool { return true },
	}); err != nil || n != 6 {
		f.Errorf("%d sagas were purged, %v; want 6", n, err)
	}
	ids := func(before, limit, want int) {
		f.T.Helper()
		if n, err := f.PurgeIDs(f.Context(), minute(before), limit); err != nil || n != want {
			f.Errorf("%d ids were purged, %v; want %d", n, err, want)
		}
	}
	ids(1, 10, 0)
	ids(2, 10, 2)
	ids(3, 1, 1)
	f.reopen()
	ids(3, 10, 1)
	ids(3, 10, 0)
	for _, id := range []string{"r-1", "r-2", "r-3", "child"} {
		if purged, err := f.Purged(f.Context(), id); err != nil || purged {
			f.Errorf("%s is remembered: %v", id, err)
		}
		f.write(first(row(id, 20))) // its id can be used again
	}
	ids(59, 10, 1)
	for id, want := range map[string]bool{"r-4": false, "child of an old parent": true} {
		if purged, err := f.Purged(f.Context(), id); err != nil || purged != want {
			f.Errorf("%s is remembered: %t, %v", id, purged, err)
		}
	}
	_, err := f.PurgeIDs(f.Context(), minute(1), 0)
	f.failsWith("purging no ids", err, journal.ErrInvalid)
}

// purgeMany purges more sagas than fit into one transaction, while another goroutine writes.
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
	got, err := f.Purge(f.Context(), journal.PurgeParams{
		Definitions: []string{group[0].Row.Definition}, EndedBefore: minute(59), Limit: sagas - 1,
	})
	if err != nil || got != sagas-1 {
		f.Errorf("%d were purged, %v; want %d", got, err, sagas-1)
	}
	all.Wait()
	if rows := f.list(journal.ListParams{Limit: 100}); len(rows) != 2 {
		f.Errorf("%d sagas are left, want 2", len(rows))
	}
	f.holds(journalOf(row("open", 1), 20))
}
