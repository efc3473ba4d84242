package journaltest

import (
	"context"
	"fmt"
	"sync"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

func reopen(f *fixture) {
	var epochs []uint64
	r := row("one", 1)
	r.Labels = map[string]string{"customer": "c-1"}
	f.write(first(r))
	for turn := uint64(2); turn < 6; turn++ {
		epochs = append(epochs, f.Epoch())
		f.reopen()
		f.holds(journalOf(r, turn-1))
		again := first(row("one", 9))
		f.append(again)
		f.failsWith("the same saga after reopening", again.Err, journal.ErrExists)
		f.write(next("one", turn, nil), first(row(fmt.Sprintf("new in %d", turn), 2)))
	}
	epochs = append(epochs, f.Epoch())
	for i, epoch := range epochs {
		if epoch == 0 || i > 0 && epoch <= epochs[i-1] {
			f.Errorf("the epochs are %v; they must be positive and grow", epochs)
		}
	}
	f.sameIDs("after reopening", f.list(journal.ListParams{Limit: 100}),
		"one", "new in 2", "new in 3", "new in 4", "new in 5")
}

// calls runs every method that can fail, and returns the errors.
func (f *fixture) calls(ctx context.Context, s journal.Store) map[string]error {
	errs := make(map[string]error)
	errs["append"] = s.Append(ctx, []*journal.Entry{first(row("new", 1))})
	_, errs["load"] = s.Load(ctx, "one")
	_, errs["get"] = s.Get(ctx, "one")
	_, errs["open"] = s.Open(ctx, journal.OpenParams{Limit: 1})
	_, errs["due"] = s.Due(ctx, minute(1), 1)
	_, errs["turns"] = s.Turns(ctx, "one", 0, 1)
	_, errs["list"] = s.List(ctx, journal.ListParams{Limit: 1})
	errs["publish"] = s.Append(ctx, []*journal.Entry{publishing(event(verified, "1", "c-1", 1))})
	_, _, errs["next event"] = s.NextEvent(ctx, "one", nil)
	_, errs["events"] = s.Events(ctx, journal.EventsParams{Limit: 1})
	_, _, errs["event range"] = s.EventRange(ctx)
	_, errs["consumer"] = s.Consumer(ctx, journal.Consumer{Name: "one"})
	errs["acknowledge"] = s.Acknowledge(ctx, "one", 1, "")
	_, errs["purge events"] = s.PurgeEvents(ctx, minute(1), 1)
	_, errs["purge event ids"] = s.PurgeEventIDs(ctx, minute(1), 1)
	_, errs["purge ids"] = s.PurgeIDs(ctx, minute(1), 1)
	_, errs["purge"] = s.Purge(ctx, journal.PurgeParams{EndedBefore: minute(1), Limit: 1})
	_, errs["raise position"] = s.RaisePosition(ctx, 0)
	errs["mark replaced"] = s.MarkReplaced(ctx, "a test", 0)
	errs["end restore"] = s.EndRestore(ctx)
	_, errs["participants"] = s.Participants(ctx)
	errs["put participant"] = s.PutParticipant(ctx, journal.Participant{Service: "a.A"})
	_, errs["lost"] = s.Lost(ctx, journal.LostParams{Limit: 1})
	errs["add lost"] = s.AddLost(ctx, []journal.LostSaga{{ID: "lost"}})
	errs["remove lost"] = s.RemoveLost(ctx, "lost")
	errs["note remote children"] = s.NoteRemoteChildren(ctx, minute(1))
	errs["note traced"] = s.NoteTraced(ctx, minute(1))
	_, errs["oldest open"] = s.OldestOpen(ctx)
	_, errs["children"] = s.Children(ctx, journal.ChildrenParams{Limit: 1})
	_, errs["oldest child"] = s.OldestChild(ctx)
	_, errs["hear"] = s.Hear(ctx, journal.HeardScope{Scope: "a/0", Epoch: 1})
	_, errs["purged"] = s.Purged(ctx, "one")
	return errs
}

func closed(f *fixture) {
	f.write(first(row("one", 1)))
	before := f.Store
	epoch := before.Epoch()
	f.reopen()
	for call, err := range f.calls(f.Context(), before) {
		f.failsWith(call+" after close", err, journal.ErrClosed)
	}
	if err := before.Close(); err != nil {
		f.Errorf("closing again: %v", err)
	}
	if before.Epoch() != epoch {
		f.Errorf("the epoch of a closed store is %d, before it was %d", before.Epoch(), epoch)
	}
	f.sameIDs("after calls to a closed store", f.list(journal.ListParams{Limit: 10}), "one")
}

func endedContext(f *fixture) {
	f.write(first(row("one", 1)))
	ctx, cancel := context.WithCancel(f.Context())
	cancel()
	for call, err := range f.calls(ctx, f.Store) {
		f.failsWith(call+" with an ended context", err, context.Canceled)
	}
	f.holds(journalOf(row("one", 1), 1))
}

// concurrent writes and reads one store concurrently. Each saga has one writer.
func concurrent(f *fixture) {
	const writers, sagas, length = 4, 5, 20
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for turn := uint64(1); turn <= length; turn++ {
				var group []*journal.Entry
				for s := range sagas {
					r := row(fmt.Sprintf("s-%d-%d", w, s), s)
					entry := next(r.ID, turn, nil)
					if turn == 1 || turn == length {
						entry.Row = r
					}
					group = append(group, entry)
				}
				if err := f.Append(f.Context(), group); err != nil {
					f.Errorf("append: %v", err)
					return
				}
				for _, entry := range group {
					if entry.Err != nil {
						f.Errorf("turn %d of saga %s: %v", entry.Turn, entry.Saga, entry.Err)
					}
				}
				// A writer reads what it has written.
				read, err := f.Load(f.Context(), group[0].Saga)
				if err != nil || uint64(len(read.Turns)) != turn {
					f.Errorf("load after the append: %v, %v; want %d turns", read, err, turn)
					return
				}
			}
		})
		all.Go(func() {
			for range length {
				if _, err := f.Open(f.Context(), journal.OpenParams{Limit: 100}); err != nil {
					f.Errorf("open: %v", err)
				}
				if _, err := f.List(f.Context(), journal.ListParams{Limit: 100}); err != nil {
					f.Errorf("list: %v", err)
				}
				if _, err := f.Due(f.Context(), minute(59), 100); err != nil {
					f.Errorf("due: %v", err)
				}
			}
		})
	}
	all.Wait()
	for w := range writers {
		for s := range sagas {
			f.holds(journalOf(row(fmt.Sprintf("s-%d-%d", w, s), s), length))
		}
	}

	// When the same saga is started several times at once, one start succeeds.
	var mu sync.Mutex
	started := 0
	for range writers * 2 {
		all.Go(func() {
			entry := first(row("wanted", 1))
			if err := f.Append(f.Context(), []*journal.Entry{entry}); err != nil {
				f.Errorf("append: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			if entry.Err == nil {
				started++
			} else {
				f.failsWith("a second start", entry.Err, journal.ErrExists)
			}
		})
	}
	all.Wait()
	if started != 1 {
		f.Errorf("%d starts of the same saga succeeded, want 1", started)
	}
}

// atomicGroups reads pages of sagas while every group writes all of them. A call reads all of a group or nothing.
func atomicGroups(f *fixture) {
	const sagas, length = 5, 50
	group := func(turn uint64) []*journal.Entry {
		var entries []*journal.Entry
		for s := range sagas {
			r := row(fmt.Sprintf("s-%d", s), s)
			r.UpdateTime = minute(int(turn))
			entries = append(entries, next(r.ID, turn, r))
		}
		return entries
	}
	f.write(group(1)...)
	done := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		defer close(done)
		for turn := uint64(2); turn <= length; turn++ {
			if err := f.Append(f.Context(), group(turn)); err != nil {
				f.Errorf("append: %v", err)
				return
			}
		}
	})
	for range 2 {
		all.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				open, err := f.Open(f.Context(), journal.OpenParams{Limit: sagas})
				if err != nil {
					f.Errorf("open: %v", err)
					return
				}
				for _, one := range open {
					if len(one.Turns) != len(open[0].Turns) || !one.Row.UpdateTime.Equal(minute(len(one.Turns))) {
						f.Errorf("one call read saga %s with %d turns, updated at %v, and another saga with %d turns",
							one.Row.ID, len(one.Turns), one.Row.UpdateTime, len(open[0].Turns))
					}
				}
			}
		})
	}
	all.Wait()
}
