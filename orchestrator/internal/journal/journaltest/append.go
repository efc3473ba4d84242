package journaltest

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

func appendAndLoad(f *fixture) {
	r := row("one", 1)
	r.Labels = map[string]string{"customer": "c-1", "card": "gold"}
	r.Due = minute(9)
	f.write(first(r))
	f.holds(journalOf(r, 1))

	f.write(next("one", 2, nil)) // the row doesn't change
	f.holds(journalOf(r, 2))

	r.State, r.UpdateTime, r.Due = compensating, minute(2), time.Time{}
	f.write(next("one", 3, r))
	f.holds(journalOf(r, 3))

	r.State, r.UpdateTime, r.EndTime = compensated, minute(3), minute(3)
	f.write(next("one", 4, r))
	f.holds(journalOf(r, 4))

	_, err := f.Load(f.Context(), "two")
	f.failsWith("load a saga that doesn't exist", err, journal.ErrNotFound)
}

func appendRefusals(f *fixture) {
	old := row("old", 1)
	f.write(first(old))
	ended := row("ended", 2)
	ended.State, ended.EndTime = succeeded, minute(2)
	f.write(first(ended))

	twice := row("old", 5) // differs from the stored row
	twice.Definition, twice.Labels = "acme.card.v1.CardSagas/CloseCard", map[string]string{"customer": "c-2"}
	created, changed := row("new", 3), row("old", 4)
	group := []*journal.Entry{
		first(twice),
		next("absent", 2, nil),
		next("absent too", 7, row("absent too", 1)),
		first(created),
		next("ended", 3, ended),
		next("ended again", 2, row("ended again", 1)),
	}
	f.append(group...)
	for i, want := range []error{
		journal.ErrExists, journal.ErrConflict, journal.ErrConflict, nil, journal.ErrConflict, journal.ErrConflict,
	} {
		f.failsWith(fmt.Sprintf("entry %d", i), group[i].Err, want)
	}
	f.holds(journalOf(old, 1))
	f.holds(journalOf(created, 1))
	f.holds(journalOf(ended, 1))
	for _, id := range []string{"absent", "absent too", "ended again"} {
		_, err := f.Load(f.Context(), id)
		f.failsWith("load a refused saga", err, journal.ErrNotFound)
	}

	// A turn that exists is a conflict, and so is one after a gap. When an entry is used again, its Err is set again.
	again := group[0]
	again.Turn, again.Row, again.Data = 2, changed, data("old", 2)
	gap := next("new", 3, nil)
	f.append(again, gap)
	f.failsWith("the next turn", again.Err, nil)
	f.failsWith("a turn after a gap", gap.Err, journal.ErrConflict)
	repeated := next("old", 2, row("old", 9))
	f.append(repeated)
	f.failsWith("a turn that exists", repeated.Err, journal.ErrConflict)
	old.UpdateTime = changed.UpdateTime
	f.holds(journalOf(old, 2))
	f.holds(journalOf(created, 1))

	// Nothing of a refused start is stored.
	f.sameIDs("search for the label of the refused start", f.list(journal.ListParams{
		Filter: labelLeaf(journal.Equal, "customer", "c-2"), Limit: 10,
	}))
}

func appendInvalid(f *fixture) {
	with := func(change func(*journal.Entry)) *journal.Entry {
		entry := first(row("bad", 1))
		change(entry)
		return entry
	}
	broken := string([]byte{0xff})
	for name, entry := range map[string]*journal.Entry{
		"no saga":            with(func(e *journal.Entry) { e.Saga = "" }),
		"id not UTF-8":       with(func(e *journal.Entry) { e.Saga, e.Row.ID = broken, broken }),
		"turn 0":             with(func(e *journal.Entry) { e.Turn = 0 }),
		"turn too far":       with(func(e *journal.Entry) { e.Turn = journal.MaxTurns + 1 }),
		"data too long":      with(func(e *journal.Entry) { e.Data = make([]byte, journal.MaxTurnBytes+1) }),
		"start without row":  with(func(e *journal.Entry) { e.Row = nil }),
		"another saga's row": with(func(e *journal.Entry) { e.Row.ID = "good" }),
		"no state":           with(func(e *journal.Entry) { e.Row.State = 0 }),
		"unknown state":      with(func(e *journal.Entry) { e.Row.State = treatyv1.SagaState(99) }),
		"reason if running":  with(func(e *journal.Entry) { e.Row.Suspension = reasons[0] }),
		"definition":         with(func(e *journal.Entry) { e.Row.Definition = broken }),
		"label":              with(func(e *journal.Entry) { e.Row.Labels = map[string]string{broken: "x"} }),
		"label's value":      with(func(e *journal.Entry) { e.Row.Labels = map[string]string{"x": broken} }),
	} {
		err := f.Append(f.Context(), []*journal.Entry{first(row("good", 1)), entry})
		f.failsWith(name, err, journal.ErrInvalid)
	}
	f.sameIDs("after invalid groups", f.list(journal.ListParams{Limit: 10}))
}

func appendEmpty(f *fixture) {
	for _, group := range [][]*journal.Entry{nil, {}} {
		if err := f.Append(f.Context(), group); err != nil {
			f.Errorf("an empty group: %v", err)
		}
	}
	empty := first(row("no data", 1))
	empty.Data = nil
	f.write(empty)
	want := journalOf(row("no data", 1), 1)
	want.Turns[0].Data = nil
	f.holds(want)
}

func appendKeepsNothing(f *fixture) {
	entry := first(row("one", 1))
	entry.Row.Labels = map[string]string{"customer": "c-1"}
	f.write(entry)
	clear(entry.Data)
	entry.Row.Labels["customer"], entry.Row.State = "c-2", succeeded
	want := row("one", 1)
	want.Labels = map[string]string{"customer": "c-1"}
	f.holds(journalOf(want, 1))

	// What a method returns belongs to the caller.
	read, err := f.Load(f.Context(), "one")
	if err != nil {
		f.Fatal(err)
	}
	clear(read.Turns[0].Data)
	read.Row.Labels["customer"] = "c-3"
	f.holds(journalOf(want, 1))
}

func appendBig(f *fixture) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 4<<20/16)
	var group []*journal.Entry
	for i := range 4 {
		entry := first(row(fmt.Sprintf("big %d", i), i))
		entry.Data = big[i:]
		group = append(group, entry)
	}
	longID := strings.Repeat("long ", 200)
	group = append(group, first(row(longID, 5)))
	f.write(group...)
	f.reopen()
	for i := range 4 {
		want := journalOf(row(fmt.Sprintf("big %d", i), i), 1)
		want.Turns[0].Data = big[i:]
		f.holds(want)
	}
	f.holds(journalOf(row(longID, 5), 1))

	longest := first(row("longest", 1))
	longest.Data = make([]byte, journal.MaxTurnBytes)
	longest.Data[journal.MaxTurnBytes-1] = 1
	f.write(longest)
	want := journalOf(row("longest", 1), 1)
	want.Turns[0].Data = longest.Data
	f.holds(want)
}

func appendConstants(f *fixture) {
	was := row("one", 1)
	was.Labels = map[string]string{"customer": "c-1"}
	f.write(first(was))
	other := row("one", 7)
	other.Definition, other.State = "acme.card.v1.CardSagas/CloseCard", suspended
	other.Labels = map[string]string{"customer": "c-2", "card": "x"}
	f.write(next("one", 2, other))
	was.State, was.UpdateTime = other.State, other.UpdateTime
	f.holds(journalOf(was, 2))
	for value, want := range map[string][]string{"c-1": {"one"}, "c-2": {}} {
		f.sameIDs("search for "+value, f.list(journal.ListParams{
			Filter: labelLeaf(journal.Equal, "customer", value), Limit: 10,
		}), want...)
	}
}

func appendLong(f *fixture) {
	r := row("long", 1)
	f.write(first(r))
	f.write(first(row("other", 1)))
	for turn := uint64(2); turn <= 300; turn++ {
		f.write(next("long", turn, nil), next("other", turn, nil))
	}
	f.holds(journalOf(r, 300))
	f.reopen() // a cache is lost
	f.write(next("long", 301, nil))
	conflict := next("other", 302, nil)
	f.append(conflict)
	f.failsWith("a gap", conflict.Err, journal.ErrConflict)
	f.holds(journalOf(r, 301))
}

// restartJournal restarts the journals of sagas, which deletes their earlier turns.
func restartJournal(f *fixture) {
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
	restart := next("one", 7, r)
	restart.NewRound = true
	f.write(restart)
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
	for after, want := range map[uint64][]journal.Turn{
		0: since(7, 8).Turns, 6: since(7, 8).Turns, 7: since(8, 9).Turns, 8: since(9, 9).Turns, 9: nil,
	} {
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

	// It is restarted again, after one that is refused.
	gap := next("one", 11, r)
	gap.NewRound = true
	f.append(gap)
	f.failsWith("a gap", gap.Err, journal.ErrConflict)
	f.holds(since(7, 9))
	restart = next("one", 10, r)
	restart.NewRound = true
	f.write(restart)
	f.holds(since(10, 10))
}
