package engine

import (
	"errors"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// keyRetry is how long to wait before a saga is looked at again whose suspension couldn't be stored.
const keyRetry = time.Second

// keyMissing is the reason of a saga that is suspended since a key is missing.
const keyMissing = treatyv1.SuspensionReason_SUSPENSION_REASON_KEY_MISSING

// suspendForKey suspends a saga if err says that its journal is sealed with a key that is missing. The saga has no
// machine, since nobody knows what its journal holds. So the turn that says so is written without one. Nothing is lost:
// once the key is back and the saga is resumed, its outstanding commands are sent again under their ids. The caller
// runs the instance, or is about to drop it.
func (d *driver) suspendForKey(inst *instance, err error) {
	missing, is := errors.AsType[*journal.KeyError](err)
	if !is || missing.Row == nil || journal.Final(missing.Row.State) ||
		missing.Row.State == treatyv1.SagaState_SAGA_STATE_SUSPENDED {
		return
	}
	entry, turn, err := d.keyTurn(missing)
	if err == nil {
		pending := &pendingTurn{entry: *entry, done: make(chan struct{}, 1)}
		if err = d.writer.groups.commit(pending); err == nil {
			err = pending.entry.Err
		}
	}
	if err != nil {
		d.config.Logger.Error("suspending a saga whose key is missing failed; trying again", "saga", inst.name, "key",
			missing.Key, "error", err)
		time.AfterFunc(keyRetry, func() { d.waker.queue.add(inst.id) })
		return
	}
	d.waker.timers.set(inst.id, time.Time{})
	d.notifier.turnOfUnread(inst, &machine.Saga{
		ID: inst.id, Started: &treatyv1.SagaStarted{Definition: missing.Row.Definition}, Turns: entry.Turn,
		State: entry.Row.State, Suspension: turn.GetRecords()[0].GetSagaSuspended(),
	}, turn)
}

// keyTurn returns the turn that suspends a saga whose key is missing.
func (d *driver) keyTurn(missing *journal.KeyError) (*journal.Entry, *treatyv1.Turn, error) {
	now := d.config.now().UTC().Truncate(time.Microsecond)
	if now.Before(missing.Row.UpdateTime) {
		now = missing.Row.UpdateTime
	}
	turn := &treatyv1.Turn{Time: timestamppb.New(now), Records: []*treatyv1.Record{{
		Kind: &treatyv1.Record_SagaSuspended{SagaSuspended: suspensionForKey(missing)},
	}}}
	data, err := proto.Marshal(turn)
	if err != nil {
		return nil, nil, err
	}
	row := *missing.Row
	row.State, row.Suspension = treatyv1.SagaState_SAGA_STATE_SUSPENDED, keyMissing
	row.UpdateTime, row.Due, row.Waiting, row.Awaits, row.Err = now, time.Time{}, false, nil, nil
	row.Revision = machine.RevisionAt(row.ID, missing.Turn+1, now)
	return &journal.Entry{Saga: row.ID, Turn: missing.Turn + 1, Time: now, Data: data, Row: &row}, turn, nil
}

func suspensionForKey(missing *journal.KeyError) *treatyv1.SagaSuspended {
	return &treatyv1.SagaSuspended{
		Reason:  keyMissing,
		Message: missing.Error() + "; the orchestrator reads it again without a restart; then resume",
	}
}

// viewWithoutKey returns what is known of a saga that is suspended since a key is missing. It returns nil for all other
// errors and sagas.
func viewWithoutKey(err error) *treatyv1.Saga {
	missing, is := errors.AsType[*journal.KeyError](err)
	if !is || missing.Row == nil || missing.Row.Suspension != keyMissing {
		return nil
	}
	row := missing.Row
	return &treatyv1.Saga{
		Name: wire.SagaName(row.ID), Definition: row.Definition, State: row.State, Labels: row.Labels,
		RequestId: row.RequestID, CreateTime: timestamp(row.CreateTime), UpdateTime: timestamp(row.UpdateTime),
		Suspension: suspensionForKey(missing), Etag: machine.Etag(row.Revision),
		PossibleDecisions: []treatyv1.DecisionKind{treatyv1.DecisionKind_DECISION_KIND_RETRY},
	}
}
