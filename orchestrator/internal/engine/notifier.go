package engine

import (
	"log/slog"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// notifier notifies the observer, the watchers and the callers that wait for a saga's end of what is durable.
type notifier struct {
	observer Observer
	feeds    *feeds      // of those who watch a saga
	waiters  sagaWaiters // for the ends of sagas
	turns    *reversals
	logger   *slog.Logger
}

// turnCommitted notifies of a turn that is durable. The caller runs the instance.
func (n *notifier) turnCommitted(inst *instance, turn *treatyv1.Turn) {
	n.turnOfUnread(inst, inst.machine.Saga(), turn)
}

// turnOfUnread is turnCommitted for a saga whose machine isn't loaded.
func (n *notifier) turnOfUnread(inst *instance, saga *machine.Saga, turn *treatyv1.Turn) {
	reopened := false
	for _, record := range turn.GetRecords() {
		switch r := record.GetKind().(type) {
		case *treatyv1.Record_SagaStarted:
			n.observer.SagaStarted(saga)
		case *treatyv1.Record_StepScheduled:
			n.observer.CommandScheduled(saga, r.StepScheduled.GetStep(), Action)
		case *treatyv1.Record_CompensationScheduled:
			n.observer.CommandScheduled(saga, r.CompensationScheduled.GetStep(), Compensation)
		case *treatyv1.Record_SagaSuspended:
			n.logger.Warn("saga suspended", "saga", inst.name,
				"reason", r.SagaSuspended.GetReason().String(), "message", r.SagaSuspended.GetMessage())
			n.observer.SagaSuspended(saga, r.SagaSuspended.GetReason())
		case *treatyv1.Record_CompensationDecided:
			reopened = saga.Reply != nil
			n.turns.turned(saga)
		case *treatyv1.Record_SagaSucceeded:
			n.turns.succeeded(saga)
		}
	}
	if reopened {
		n.observer.SagaReopened(saga)
	}
	if saga.Final() {
		n.observer.SagaEnded(saga)
		if inst.ended != nil {
			inst.end = endOf(saga)
			close(inst.ended)
			inst.ended = nil
		}
		n.waiters.notify(inst.id)
	}
	n.feeds.committed(inst.id, saga.Turns, turn)
}

func endOf(saga *machine.Saga) SagaEnd {
	return SagaEnd{State: saga.State, Reply: saga.Reply, Failure: saga.CompensationDecided.GetFailure()}
}
