package journaltest

import (
	"fmt"
	"slices"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// The types of the events in the suite. Their subject is a customer.
const (
	verified = "acme.identity.v1.Verified"
	moved    = "acme.customer.v1.Moved"
)

// event returns an event about a customer that is published at a minute.
func event(kind, id, subject string, at int) *journal.Event {
	return &journal.Event{
		Source: "publishers/" + subject, ID: id, Type: kind, Subject: subject, Time: minute(at), StoreTime: minute(at),
		Data: fmt.Appendf(nil, "%s %s of %s", kind, id, subject),
	}
}

// publishing returns an entry that only publishes events.
func publishing(events ...*journal.Event) *journal.Entry {
	return &journal.Entry{Events: events}
}

// awaiting returns the row of a saga that was created at a minute and waits for events.
func awaiting(id string, at int, awaits ...journal.Await) *journal.Row {
	r := row(id, at)
	r.Waiting, r.Awaits = true, awaits
	return r
}

func publishAndRead(f *fixture) {
	oldest, newest, err := f.EventRange(f.Context())
	if err != nil || oldest != 0 || newest != 0 {
		f.Errorf("without events the range is %d to %d, %v", oldest, newest, err)
	}
	zone := time.FixedZone("somewhere", -5*3600)
	first, second, third := event(verified, "1", "c-1", 1), event(moved, "2", "c-2", 2), event(verified, "3", "c-2", 3)
	first.Time = time.Date(2026, 1, 31, 7, 1, 0, 123456789, zone)
	first.StoreTime = first.Time.Add(time.Hour)
	second.Data = nil
	f.write(publishing(first, second))
	f.write(publishing(third))
	if first.Position == 0 || second.Position <= first.Position || third.Position <= second.Position {
		f.Fatalf("the positions are %d, %d, %d; they must be positive and grow",
			first.Position, second.Position, third.Position)
	}
	all := []*journal.Event{first, second, third}
	one, two, many := []string{verified}, []string{verified, moved}, append(manyTypes(), moved)
	f.reopen()
	for name, test := range map[string]struct {
		params journal.EventsParams
		want   []*journal.Event
	}{
		"all":                   {journal.EventsParams{Limit: 10}, all},
		"a page":                {journal.EventsParams{Limit: 2}, all[:2]},
		"a page of bytes":       {journal.EventsParams{Limit: 10, MaxBytes: first.Size() + 1}, all[:2]},
		"a page of one event":   {journal.EventsParams{Limit: 10, MaxBytes: 1}, all[:1]},
		"a page, exactly":       {journal.EventsParams{Limit: 10, MaxBytes: first.Size() + second.Size()}, all[:2]},
		"a page of a subject":   {journal.EventsParams{Subject: "c-2", Limit: 10, MaxBytes: 1}, all[1:2]},
		"the next page":         {journal.EventsParams{After: second.Position, Limit: 2}, all[2:]},
		"after the last":        {journal.EventsParams{After: third.Position, Limit: 2}, nil},
		"far after the last":    {journal.EventsParams{After: 1 << 63, Limit: 2}, nil},
		"a type":                {journal.EventsParams{Types: one, Limit: 10}, []*journal.Event{first, third}},
		"a type, after":         {journal.EventsParams{After: first.Position, Types: one, Limit: 10}, all[2:]},
		"two types":             {journal.EventsParams{Types: []string{verified, moved, verified}, Limit: 10}, all},
		"two types, a page":     {journal.EventsParams{Types: two, Limit: 2}, all[:2]},
		"no such type":          {journal.EventsParams{Types: []string{"acme.None"}, Limit: 10}, nil},
		"many types":            {journal.EventsParams{Types: many, Limit: 10}, all[1:2]},
		"a subject":             {journal.EventsParams{Subject: "c-2", Limit: 10}, all[1:]},
		"a subject, after":      {journal.EventsParams{After: second.Position, Subject: "c-2", Limit: 10}, all[2:]},
		"no such subject":       {journal.EventsParams{Subject: "c-3", Limit: 10}, nil},
		"a subject and a type":  {journal.EventsParams{Subject: "c-2", Types: one, Limit: 10}, all[2:]},
		"a subject and types":   {journal.EventsParams{Subject: "c-2", Types: two, Limit: 10}, all[1:]},
		"a subject, many types": {journal.EventsParams{Subject: "c-2", Types: many, Limit: 10}, all[1:2]},
	} {
		got, err := f.Events(f.Context(), test.params)
		if err != nil {
			f.Fatal(err)
		}
		f.sameEvents(name, got, test.want...)
	}
	oldest, newest, err = f.EventRange(f.Context())
	if err != nil || oldest != first.Position || newest != third.Position {
		f.Errorf("the range is %d to %d, %v; want %d to %d", oldest, newest, err, first.Position, third.Position)
	}
}

func manyTypes() []string {
	var types []string
	for i := range 100 {
		types = append(types, fmt.Sprintf("acme.Type%d", i))
	}
	return types
}

// publishAgain publishes stored events again, and different events with the same source and id.
func publishAgain(f *fixture) {
	was := event(verified, "1", "c-1", 1)
	f.write(publishing(was))
	same := event(verified, "1", "c-1", 9) // times aren't compared
	otherType := event(moved, "1", "c-1", 1)
	otherSubject, otherData := event(verified, "1", "c-1", 1), event(verified, "1", "c-1", 1)
	otherSubject.Subject, otherData.Data = "c-2", []byte("other")
	fresh := event(verified, "2", "c-1", 2)

	// In the entry of a saga, an event with Err doesn't keep the others and the turn from being written.
	f.write(&journal.Entry{
		Saga: "one", Turn: 1, Data: data("one", 1), Row: row("one", 1),
		Events: []*journal.Event{same, otherType, otherSubject, otherData, fresh},
	})
	for name, one := range map[string]*journal.Event{"type": otherType, "subject": otherSubject, "data": otherData} {
		f.failsWith("another "+name, one.Err, journal.ErrExists)
		if one.Position != was.Position {
			f.Errorf("the event stored at position %d came back with position %d", was.Position, one.Position)
		}
	}
	if same.Err != nil || same.Position != was.Position || fresh.Err != nil || fresh.Position <= was.Position {
		f.Errorf("the same event: %d, %v; a new one: %d, %v", same.Position, same.Err, fresh.Position, fresh.Err)
	}
	f.holds(journalOf(row("one", 1), 1))
	f.hasEvents(was, fresh)

	// In an entry without a saga, all events are published or none.
	before, after := event(verified, "3", "c-1", 3), event(verified, "4", "c-1", 4)
	twice := event(verified, "3", "c-1", 3)
	entry, other := publishing(before, otherData, after, twice), publishing(event(moved, "5", "c-5", 5))
	f.append(entry, other)
	f.failsWith("an entry with a different event", entry.Err, journal.ErrExists)
	f.failsWith("the next entry", other.Err, nil)
	for _, one := range []*journal.Event{before, after, twice} {
		if one.Err != nil || one.Position != 0 {
			f.Errorf("an event that wasn't written has the position %d and the error %v", one.Position, one.Err)
		}
	}
	f.hasEvents(was, fresh, other.Events[0])

	// The same event twice in one entry is one event. A different event with the same id is an error.
	entry = publishing(before, twice)
	f.write(entry)
	if before.Position != twice.Position {
		f.Errorf("the same event has the positions %d and %d", before.Position, twice.Position)
	}
	contradiction := event(moved, "6", "c-6", 6)
	contradiction.Data = nil
	entry = publishing(event(moved, "6", "c-6", 6), contradiction)
	f.append(entry)
	f.failsWith("an entry with different events of one id", entry.Err, journal.ErrExists)
	f.hasEvents(was, fresh, other.Events[0], before)
	f.reopen()
	last := event(moved, "7", "c-7", 7)
	f.write(publishing(last))
	f.hasEvents(was, fresh, other.Events[0], before, last)
}

// publishRefused publishes events with turns that are refused.
func publishRefused(f *fixture) {
	f.write(first(row("one", 1)))
	f.write(first(awaiting("waits", 1, journal.Await{Type: verified, Subject: "c-1"})))
	again, gap := first(row("one", 1)), next("one", 3, nil)
	again.Events = []*journal.Event{event(verified, "1", "c-1", 1)}
	gap.Events = []*journal.Event{event(verified, "2", "c-1", 1)}
	f.append(again, gap)
	f.failsWith("a second start", again.Err, journal.ErrExists)
	f.failsWith("a turn after a gap", gap.Err, journal.ErrConflict)
	for _, entry := range []*journal.Entry{again, gap} {
		if one := entry.Events[0]; one.Position != 0 || one.Err != nil || len(entry.Woken) > 0 {
			f.Errorf("the event of a refused turn has the position %d and the error %v; it woke %q",
				one.Position, one.Err, entry.Woken)
		}
	}
	f.hasEvents()
	f.holds(journalOf(awaiting("waits", 1, journal.Await{Type: verified, Subject: "c-1"}), 1))

	// When the entry is used again, Append sets its results again.
	gap.Turn = 2
	f.write(gap)
	f.woke(gap, "waits")
	f.hasEvents(gap.Events[0])
}

func publishInvalid(f *fixture) {
	broken, tooLong := string([]byte{0xff}), make([]byte, journal.MaxEventBytes+1)
	tooMany := slices.Repeat([]journal.Await{{Type: verified, Subject: "c"}}, journal.MaxAwaits+1)
	with := func(change func(*journal.Entry, *journal.Event)) *journal.Entry {
		bad := event(verified, "1", "c-1", 1)
		entry := publishing(event(verified, "2", "c-1", 1), bad)
		change(entry, bad)
		return entry
	}
	for name, entry := range map[string]*journal.Entry{
		"nothing":           {},
		"nil":               with(func(e *journal.Entry, _ *journal.Event) { e.Events[1] = nil }),
		"no source":         with(func(_ *journal.Entry, bad *journal.Event) { bad.Source = "" }),
		"no id":             with(func(_ *journal.Entry, bad *journal.Event) { bad.ID = "" }),
		"no type":           with(func(_ *journal.Entry, bad *journal.Event) { bad.Type = "" }),
		"source not UTF-8":  with(func(_ *journal.Entry, bad *journal.Event) { bad.Source = broken }),
		"id not UTF-8":      with(func(_ *journal.Entry, bad *journal.Event) { bad.ID = broken }),
		"type not UTF-8":    with(func(_ *journal.Entry, bad *journal.Event) { bad.Type = broken }),
		"subject not UTF-8": with(func(_ *journal.Entry, bad *journal.Event) { bad.Subject = broken }),
		"data too long":     with(func(_ *journal.Entry, bad *journal.Event) { bad.Data = tooLong }),
		"no time":           with(func(_ *journal.Entry, bad *journal.Event) { bad.StoreTime = time.Time{} }),
		"a row":             with(func(e *journal.Entry, _ *journal.Event) { e.Row = row("one", 1) }),
		"data":              with(func(e *journal.Entry, _ *journal.Event) { e.Data = []byte("turn") }),
		"a turn":            with(func(e *journal.Entry, _ *journal.Event) { e.Turn = 1 }),
		"first":             with(func(e *journal.Entry, _ *journal.Event) { e.NewRound = true }),
		"first of all":      {Saga: "one", Turn: 1, Row: row("one", 1), NewRound: true},
		"first, no row":     {Saga: "one", Turn: 2, NewRound: true},
		"await, no type":    first(awaiting("one", 1, journal.Await{Subject: "c-1"})),
		"await, no subject": first(awaiting("one", 1, journal.Await{Type: verified})),
		"await not UTF-8":   first(awaiting("one", 1, journal.Await{Type: verified, Subject: broken})),
		"too many awaits":   first(awaiting("one", 1, tooMany...)),
		"await without time": first(func() *journal.Row {
			r := awaiting("one", 1, journal.Await{Type: verified, Subject: "c"})
			r.UpdateTime = time.Time{}
			return r
		}()),
		"await of an ended saga": first(func() *journal.Row {
			r := awaiting("one", 1, journal.Await{Type: verified, Subject: "c"})
			r.State = succeeded
			return r
		}()),
	} {
		err := f.Append(f.Context(), []*journal.Entry{publishing(event(verified, "0", "c-1", 1)), entry})
		f.failsWith(name, err, journal.ErrInvalid)
	}
	f.hasEvents()
	f.sameIDs("after invalid groups", f.list(journal.ListParams{Limit: 10}))

	without := event(verified, "1", "c-1", 1)
	without.Subject, without.Time = "", time.Time{}
	f.write(publishing(without))
	f.hasEvents(without)
}

// publishInDoubt repeats an Append that failed before or after the commit.
func publishInDoubt(f *fixture) {
	faults := NewFaults(f.Store)
	want := []*journal.Event{}
	for i, when := range []When{BeforeCommit, AfterCommit} {
		id := fmt.Sprint(i)
		waits := awaiting("waits "+id, 1, journal.Await{Type: verified, Subject: id})
		f.write(first(waits))
		published := event(verified, "e", id, 5)
		faults.Inject(Fault{When: when})
		err := faults.Append(f.Context(), []*journal.Entry{publishing(published)})
		f.failsWith("the first append", err, ErrInjected)
		err = faults.Append(f.Context(), []*journal.Entry{publishing(published)})
		if err != nil || published.Err != nil || published.Position == 0 {
			f.Errorf("publishing again: %v, %v, position %d", err, published.Err, published.Position)
		}
		want = append(want, published)
		waits.Due = minute(5)
		f.holds(journalOf(waits, 1))

		// An await is in doubt, so the saga is read again.
		late := awaiting("late "+id, 1)
		f.write(first(late))
		f.write(publishing(event(moved, "m", id, 6)))
		want = append(want, event(moved, "m", id, 6))
		late.Awaits = []journal.Await{{Type: moved, Subject: id}}
		late.UpdateTime = minute(7)
		faults.Inject(Fault{When: when})
		err = faults.Append(f.Context(), []*journal.Entry{next(late.ID, 2, late)})
		f.failsWith("the first append", err, ErrInjected)
		turns := uint64(1)
		if read, err := f.Load(f.Context(), late.ID); err != nil {
			f.Fatal(err)
		} else if turns = uint64(len(read.Turns)); turns == 1 {
			f.write(next(late.ID, 2, late))
		}
		late.Due = minute(7)
		f.holds(journalOf(late, 2))
		if want := map[When]uint64{BeforeCommit: 1, AfterCommit: 2}[when]; turns != want {
			f.Errorf("after the fault there were %d turns, want %d", turns, want)
		}
	}
	f.hasEvents(want...)
}

// hasEvents checks that the store has exactly these events, in this order.
func (f *fixture) hasEvents(want ...*journal.Event) {
	f.T.Helper()
	got, err := f.Events(f.Context(), journal.EventsParams{Limit: len(want) + 1})
	if err != nil {
		f.Fatalf("events: %v", err)
	}
	f.sameEvents("all events", got, want...)
}

func (f *fixture) sameEvents(what string, got []*journal.Event, want ...*journal.Event) {
	f.T.Helper()
	if len(got) != len(want) {
		f.Errorf("%s: got %d events, want %d", what, len(got), len(want))
		return
	}
	for i := range got {
		g, w := got[i], want[i]
		same := g.Source == w.Source && g.ID == w.ID && g.Type == w.Type && g.Subject == w.Subject &&
			string(g.Data) == string(w.Data) && g.Err == nil &&
			g.Time.Equal(micro(w.Time)) && g.StoreTime.Equal(micro(w.StoreTime))
		if !same || w.Position != 0 && g.Position != w.Position {
			f.Errorf("%s: event %d is\n%+v, want\n%+v", what, i, g, w)
		}
		if g.Time.Location() != time.UTC || g.StoreTime.Location() != time.UTC {
			f.Errorf("%s: event %d has the times %v and %v, which aren't in UTC", what, i, g.Time, g.StoreTime)
		}
	}
}

// woke checks which sagas an entry has woken.
func (f *fixture) woke(entry *journal.Entry, want ...string) {
	f.T.Helper()
	if got := slices.Sorted(slices.Values(entry.Woken)); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		f.Errorf("the entry woke %q, want %q", got, want)
	}
}
