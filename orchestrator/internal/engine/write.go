package engine

import (
	"errors"
	"fmt"
	"log/slog"

	"google.golang.org/protobuf/proto"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// errUnwritable says that a turn can't be stored, whatever the state of the store. Nothing was written.
var errUnwritable = errors.New("the turn can't be stored")

// writer makes turns and published events durable, and then wakes the sagas that they concern.
type writer struct {
	groups  *groupCommitter
	replies *replyEvents
	waker   *waker
	logger  *slog.Logger

	failures repeated
}

// write makes the turn that an instance just made durable. The errors are errUnwritable, journal.ErrExists,
// journal.ErrPurged, journal.ErrFenced and ErrInDoubt.
func (w *writer) write(inst *instance, out machine.Output) error {
	saga := inst.machine.Saga()
	data, err := proto.MarshalOptions{}.MarshalAppend(inst.turnSpace(), out.Turn)
	if err != nil {
		return fmt.Errorf("%w: serializing a turn of saga %s: %w", errUnwritable, inst.id, err)
	}
	row := inst.changedRow(out)
	entry := inst.newEntry(journal.Entry{
		Saga: inst.id, Turn: saga.Turns, Time: saga.UpdateTime, Data: data, Row: row, NewRound: out.NewRound,
		Events: w.replies.in(saga, out.Turn),
	})
	if err := entry.Validate(); err != nil {
		// It must not join a group: the store would reject the whole group each time.
		return fmt.Errorf("%w: %w", errUnwritable, err)
	}
	err = w.groups.commit(inst.turn)
	switch {
	case errors.Is(err, journal.ErrFenced):
		return err
	case err != nil:
		inst.unannounced = true
		if leftOut, due := w.failures.due(); due {
			w.logger.Error("committing a turn failed; reading the saga again",
				"saga", inst.name, "turn", entry.Turn, "error", err, "left_out", leftOut)
		}
		return fmt.Errorf("%w: %w", ErrInDoubt, err)
	case errors.Is(entry.Err, journal.ErrExists), errors.Is(entry.Err, journal.ErrPurged):
		return entry.Err
	case errors.Is(entry.Err, journal.ErrCorrupt):
		w.logger.Error("a saga is damaged in the store, so its turn can't be written; reading the saga again",
			"saga", inst.name, "error", entry.Err)
		return fmt.Errorf("%w: %w", ErrInDoubt, entry.Err)
	case entry.Err != nil:
		w.logger.Error("another process wrote to this saga; reading the saga again",
			"saga", inst.name, "error", entry.Err)
		return fmt.Errorf("%w: %w", ErrInDoubt, entry.Err)
	}
	inst.failedCommits, inst.unannounced = 0, false
	if row != nil {
		inst.stored = storedRowOf(row)
		w.waker.timers.set(inst.id, row.Due)
	}
	w.waker.committed(entry)
	return nil
}

// publish makes events durable, all of them or none, and returns how many sagas it woke. The errors are ErrInDoubt,
// ErrOtherEvent and the store's own.
func (w *writer) publish(events []*journal.Event) (woken int, err error) {
	turn := &pendingTurn{entry: journal.Entry{Events: events}, done: make(chan struct{}, 1)}
	err = w.groups.commit(turn)
	switch {
	case errors.Is(err, journal.ErrFenced):
		return 0, err
	case err != nil:
		return 0, fmt.Errorf("%w: %w", ErrInDoubt, err)
	case errors.Is(turn.entry.Err, journal.ErrExists):
		return 0, ErrOtherEvent
	case turn.entry.Err != nil:
		return 0, turn.entry.Err
	}
	w.waker.committed(&turn.entry)
	return len(turn.entry.Woken), nil
}
