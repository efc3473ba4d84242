package journaltest

import (
	"fmt"
	"reflect"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// identity checks what a store says about itself over several openings.
func identity(f *fixture) {
	before := f.Identity()
	if before.StoreID == "" || before.Epoch == 0 || before.Epoch != f.Epoch() || before.Position != 0 ||
		before.Replaced != "" || before.Restored != nil || before.EpochAhead {
		f.Errorf("a new store says %+v", before)
	}
	if clock := journal.ClockEpoch(time.Now().Add(-time.Minute)); before.Epoch < clock {
		f.Errorf("the epoch %d is behind the clock's %d", before.Epoch, clock)
	}
	for _, raise := range []struct{ above, want uint64 }{{0, 1}, {0, 2}, {1, 3}, {9, 10}, {10, 11}} {
		if got, err := f.RaisePosition(f.Context(), raise.above); err != nil || got != raise.want {
			f.Errorf("the position above %d is %d, %v; want %d", raise.above, got, err, raise.want)
		}
	}
	_, err := f.RaisePosition(f.Context(), journal.MaxPosition+1)
	f.failsWith("raising the position above the highest one", err, journal.ErrInvalid)
	if got := f.Identity(); !reflect.DeepEqual(got, before) {
		f.Errorf("the identity changed while the store was open: %+v", got)
	}
	f.reopen()
	after := f.Identity()
	if after.StoreID != before.StoreID || after.PreviousEpoch != before.Epoch || after.Epoch <= before.Epoch ||
		after.Position != 11 {
		f.Errorf("after reopening the store says %+v, before it said %+v", after, before)
	}
	since := time.Date(2030, 1, 2, 3, 4, 5, 6000, time.UTC)
	for _, at := range []time.Time{since, since.Add(time.Hour)} {
		if err := f.NoteRemoteChildren(f.Context(), at); err != nil {
			f.Errorf("note remote children: %v", err)
		}
	}
	if err := f.EndRestore(f.Context()); err != nil {
		f.Errorf("ending a restoration that never was: %v", err)
	}
	for _, cause := range []string{"the first cause", "another cause"} {
		if err := f.MarkReplaced(f.Context(), cause, 7); err != nil {
			f.Errorf("mark replaced: %v", err)
		}
	}
	for range 2 {
		f.reopen()
		if got := f.Identity().RemoteChildren; !got.Equal(since) {
			f.Errorf("the store has remote children since %v, want %v", got, since)
		}
		if got := f.Identity().Replaced; got != "the first cause" {
			f.Errorf("the store was replaced because of %q", got)
		}
	}
}

// traced checks that the store remembers up to when spans were exported.
func traced(f *fixture) {
	until := time.Date(2030, 1, 2, 3, 4, 5, 6000, time.UTC)
	for _, times := range [][]time.Time{nil, {until}, {until.Add(time.Hour), until}, {until, {}}} {
		want := time.Time{}
		for _, at := range times {
			want = at
			if err := f.NoteTraced(f.Context(), at); err != nil {
				f.Errorf("note traced: %v", err)
			}
		}
		f.reopen()
		if got := f.Identity().Traced; !got.Equal(want) {
			f.Errorf("after %v, spans were exported up to %v, want %v", times, got, want)
		}
	}
}

func participants(f *fixture) {
	put := func(p journal.Participant) {
		f.T.Helper()
		if err := f.PutParticipant(f.Context(), p); err != nil {
			f.Errorf("put %+v: %v", p, err)
		}
	}
	horizon := time.Date(2030, 1, 2, 3, 4, 5, 6000, time.UTC)
	put(journal.Participant{Service: "b.B", Proven: true})
	put(journal.Participant{Service: "a.A"})
	put(journal.Participant{Service: "a.A", Proven: true, Horizon: horizon})
	put(journal.Participant{Service: "a.A", Horizon: horizon.Add(-time.Hour)}) // by a process that knows less
	put(journal.Participant{Service: "b.B"})
	want := []journal.Participant{{Service: "a.A", Proven: true, Horizon: horizon}, {Service: "b.B", Proven: true}}
	for range 2 {
		if got, err := f.Participants(f.Context()); err != nil || !reflect.DeepEqual(got, want) {
			f.Errorf("got %+v, %v; want %+v", got, err, want)
		}
		f.reopen()
	}
	f.failsWith("a participant without a service", f.PutParticipant(f.Context(), journal.Participant{}),
		journal.ErrInvalid)
}

func lostSagas(f *fixture) {
	command := func(step string, compensation bool, verdict int32) journal.LostCommand {
		return journal.LostCommand{
			CommandID: "command " + step, Participant: "a.A", Method: "a.A/Do", Digest: "0123",
			Compensation: compensation, Verdict: verdict, Start: minute(1),
		}
	}
	add := func(lost ...journal.LostSaga) {
		f.T.Helper()
		if err := f.AddLost(f.Context(), lost); err != nil {
			f.Errorf("add: %v", err)
		}
	}
	before := event(verified, "1", "c-1", 1)
	f.write(publishing(before))
	add(journal.LostSaga{ID: "one", FoundTime: minute(2), Commands: []journal.LostCommand{command("1", false, 1)}},
		journal.LostSaga{ID: "two", FoundTime: minute(2)})
	since := event(verified, "2", "c-1", 3)
	f.write(publishing(since))
	add(journal.LostSaga{ID: "one", FoundTime: minute(3), Commands: []journal.LostCommand{
		command("1", false, 3), command("1", true, 1), command("2", false, 1),
	}})
	want := []journal.LostSaga{
		{ID: "one", FoundTime: minute(2), Commands: []journal.LostCommand{
			command("1", false, 3), command("1", true, 1), command("2", false, 1),
		}, EventsAfter: before.Position},
		{ID: "two", FoundTime: minute(2), EventsAfter: before.Position},
	}
	has := func(want ...journal.LostSaga) {
		f.T.Helper()
		got, err := f.Lost(f.Context(), journal.LostParams{Limit: 10})
		if err != nil || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
			f.Errorf("got %+v, %v; want %+v", got, err, want)
		}
	}
	has(want...)
	f.reopen()
	has(want...)
	page, err := f.Lost(f.Context(), journal.LostParams{After: "one", Limit: 1})
	if err != nil || len(page) != 1 || page[0].ID != "two" {
		f.Errorf("the second page is %+v, %v", page, err)
	}
	await := journal.Await{Type: verified, Subject: "c-1"}
	again, other := first(awaiting("one", 1, await)), first(awaiting("three", 1, await))
	f.write(again)
	f.write(other)
	f.woke(again, "one")
	f.woke(other)
	has(want[1])
	for range 2 {
		if err := f.RemoveLost(f.Context(), "two"); err != nil {
			f.Errorf("remove: %v", err)
		}
	}
	has()
	_, err = f.Lost(f.Context(), journal.LostParams{})
	f.failsWith("a page of no size", err, journal.ErrInvalid)
}

func oldestOpen(f *fixture) {
	is := func(want time.Time) {
		f.T.Helper()
		if got, err := f.OldestOpen(f.Context()); err != nil || !got.Equal(want) {
			f.Errorf("the oldest open saga is of %v, %v; want %v", got, err, want)
		}
	}
	is(time.Time{})
	ended := row("ended", 1)
	ended.State, ended.EndTime = treatyv1.SagaState_SAGA_STATE_SUCCEEDED, ended.UpdateTime
	f.write(first(ended))
	is(time.Time{})
	f.write(first(row("later", 7)), first(row("open", 5)))
	is(row("open", 5).CreateTime)
	f.reopen()
	is(row("open", 5).CreateTime)
}
