package journaltest

import (
	"fmt"
	"reflect"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

func get(f *fixture) {
	r := row("one", 1)
	r.Labels = map[string]string{"customer": "c-1"}
	f.write(first(r))
	got, err := f.Get(f.Context(), "one")
	if err != nil {
		f.Fatal(err)
	}
	f.sameRow(got, r)
	for _, id := range []string{"", "ONE", "on", "one "} {
		_, err = f.Get(f.Context(), id)
		f.failsWith(fmt.Sprintf("get %q", id), err, journal.ErrNotFound)
	}
}

func times(f *fixture) {
	zone := time.FixedZone("somewhere", 5*3600+1800)
	r := row("one", 1)
	r.CreateTime = time.Date(2026, 1, 31, 12, 0, 0, 123456789, zone)
	r.UpdateTime = time.Date(1969, 12, 31, 23, 59, 59, 999999999, time.UTC) // cut off, not rounded to zero
	r.Due = time.Date(9999, 12, 31, 23, 59, 59, 999999999, zone)
	r.EndTime = time.Time{}
	f.write(first(r))
	f.holds(journalOf(r, 1))
	got, err := f.Get(f.Context(), "one")
	if err != nil {
		f.Fatal(err)
	}
	if want := time.Date(2026, 1, 31, 6, 30, 0, 123456000, time.UTC); !got.CreateTime.Equal(want) {
		f.Errorf("got the time %v, want %v", got.CreateTime, want)
	}
	if !got.EndTime.IsZero() {
		f.Errorf("the end time is %v, want none", got.EndTime)
	}
}

// inStates creates two sagas in each state.
func inStates(f *fixture) {
	for round := range 2 {
		for i, state := range states {
			r := row(fmt.Sprintf("%d-%s", round, state), round*10+i)
			f.write(first(r))
			r.State = state
			f.write(next(r.ID, 2, r))
		}
	}
}

func openStates(f *fixture) {
	inStates(f)
	open, err := f.Open(f.Context(), journal.OpenParams{Limit: 100})
	if err != nil {
		f.Fatal(err)
	}
	var got []string
	for _, one := range open {
		got = append(got, one.Row.ID)
		want := row(one.Row.ID, 0)
		want.State, want.CreateTime, want.UpdateTime = one.Row.State, one.Row.CreateTime, one.Row.UpdateTime
		f.sameJournal(one, journalOf(want, 2))
	}
	want := []string{
		"0-SAGA_STATE_COMPENSATING", "0-SAGA_STATE_RUNNING", "1-SAGA_STATE_COMPENSATING", "1-SAGA_STATE_RUNNING",
	}
	if !reflect.DeepEqual(got, want) {
		f.Errorf("open are %q, want %q", got, want)
	}

	// A saga that is resumed is open again.
	r := row("0-SAGA_STATE_SUSPENDED", 2)
	f.write(next(r.ID, 3, r))
	open, err = f.Open(f.Context(), journal.OpenParams{After: "0-SAGA_STATE_RUNNING", Limit: 1})
	if err != nil || len(open) != 1 || open[0].Row.ID != r.ID {
		f.Errorf("open after a resume: %v, %v", open, err)
	}
}

func openPages(f *fixture) {
	var group []*journal.Entry
	for i := range 25 {
		group = append(group, first(row(fmt.Sprintf("s%02d", (i*7)%25), i)))
	}
	f.write(group...)
	for _, limit := range []int{1, 7, 25, 100} {
		after, seen := "", 0
		for {
			page, err := f.Open(f.Context(), journal.OpenParams{After: after, Limit: limit})
			if err != nil {
				f.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			if len(page) > limit {
				f.Fatalf("%d sagas in a page of %d", len(page), limit)
			}
			for _, one := range page {
				if want := fmt.Sprintf("s%02d", seen); one.Row.ID != want {
					f.Fatalf("got saga %s, want %s", one.Row.ID, want)
				}
				seen++
			}
			after = page[len(page)-1].Row.ID
		}
		if seen != 25 {
			f.Errorf("in pages of %d: %d sagas, want 25", limit, seen)
		}
	}
}

func due(f *fixture) {
	timer := func(id string, at int, state treatyv1.SagaState) {
		r := row(id, 0)
		r.State = state
		if at > 0 {
			r.Due = minute(at)
		}
		f.write(first(r))
	}
	timer("late", 30, running)
	timer("early", 10, running)
	timer("tie b", 20, compensating)
	timer("tie a", 20, suspended)
	timer("none", 0, running)
	timer("done", 5, succeeded)
	timer("undone", 5, compensated)
	moved := row("moved", 0)
	moved.Due = minute(1)
	f.write(first(moved))
	moved.Due = minute(25)
	f.write(next("moved", 2, moved))
	over := row("over", 0)
	over.Due = minute(2)
	f.write(first(over))
	over.Due = time.Time{}
	f.write(next("over", 2, over))

	all := []journal.Due{
		{Saga: "early", Time: minute(10)}, {Saga: "tie a", Time: minute(20)}, {Saga: "tie b", Time: minute(20)},
		{Saga: "moved", Time: minute(25)}, {Saga: "late", Time: minute(30)},
	}
	for _, test := range []struct {
		until time.Time
		limit int
		want  []journal.Due
	}{
		{minute(59), 10, all},
		{minute(59), 2, all[:2]},
		{minute(59), 1, all[:1]},
		{minute(20), 10, all[:3]},
		{minute(20).Add(-time.Nanosecond), 10, all[:1]},
		{minute(20).Add(time.Nanosecond), 10, all[:3]},
		{minute(9), 10, nil},
		{time.Time{}, 10, nil},
	} {
		got, err := f.Due(f.Context(), test.until, test.limit)
		if err != nil {
			f.Fatal(err)
		}
		if len(got) != len(test.want) || len(got) > 0 && !reflect.DeepEqual(got, test.want) {
			f.Errorf("due until %v with limit %d: got %v, want %v", test.until, test.limit, got, test.want)
		}
	}
}

func turns(f *fixture) {
	r := row("one", 1)
	f.write(first(r))
	f.write(first(row("two", 2))) // a store may keep its turns next to the others
	for turn := uint64(2); turn <= 10; turn++ {
		f.write(next("one", turn, nil), next("two", turn, nil))
	}
	all := journalOf(r, 10).Turns
	for _, test := range []struct {
		after uint64
		limit int
		want  []journal.Turn
	}{
		{0, 100, all}, {0, 3, all[:3]}, {3, 3, all[3:6]}, {4, 1, all[4:5]}, {9, 3, all[9:]},
		{10, 3, nil}, {1 << 63, 3, nil}, {journal.MaxTurns, 3, nil},
	} {
		got, err := f.Turns(f.Context(), "one", test.after, test.limit)
		if err != nil {
			f.Fatal(err)
		}
		f.sameTurns(got, test.want)
	}
	_, err := f.Turns(f.Context(), "three", 0, 1)
	f.failsWith("turns of a saga that doesn't exist", err, journal.ErrNotFound)
}

func limits(f *fixture) {
	f.write(first(row("one", 1)))
	for _, limit := range []int{0, -1} {
		_, err := f.Open(f.Context(), journal.OpenParams{Limit: limit})
		f.failsWith("open", err, journal.ErrInvalid)
		_, err = f.Due(f.Context(), minute(1), limit)
		f.failsWith("due", err, journal.ErrInvalid)
		_, err = f.Turns(f.Context(), "one", 0, limit)
		f.failsWith("turns", err, journal.ErrInvalid)
		_, err = f.List(f.Context(), journal.ListParams{Limit: limit})
		f.failsWith("list", err, journal.ErrInvalid)
		_, err = f.Events(f.Context(), journal.EventsParams{Limit: limit})
		f.failsWith("events", err, journal.ErrInvalid)
	}
}

// openWaiting opens sagas that wait, and sagas that don't.
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

	// A driven saga waits, and then doesn't.
	r := awaiting(driven[0], 1, journal.Await{Type: verified, Subject: "c-1"})
	f.write(next(r.ID, 2, r))
	same(ids(journal.Driven, "", 100), driven[1:])
	f.write(next(r.ID, 3, nil))
	same(ids(journal.Driven, "", 100), driven[1:])
	if rows := f.list(journal.ListParams{Limit: 1}); !rows[0].Waiting || rows[0].Awaits != nil {
		f.Errorf("List returned %+v", rows[0])
	}
	got, err := f.Get(f.Context(), r.ID)
	if err != nil || !got.Waiting || got.Awaits != nil {
		f.Errorf("Get returned %+v, %v", got, err)
	}
	f.write(next(r.ID, 4, row(r.ID, 1)))
	same(ids(journal.Driven, "", 100), driven)
	_, err = f.Open(f.Context(), journal.OpenParams{Limit: 1, Which: 7})
	f.failsWith("open with an unknown selection", err, journal.ErrInvalid)
}
