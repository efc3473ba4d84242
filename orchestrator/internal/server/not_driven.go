package server

import (
	"errors"
	"slices"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
)

// conditions are the reasons why an engine drives no saga, and what an operator of this orchestrator does about them.
var conditions = []struct {
	is     error
	reason treatyv1.ErrorReason
	advice string
}{
	{
		is: engine.ErrReplaced, reason: treatyv1.ErrorReason_ERROR_REASON_STORE_REPLACED,
		advice: "find out which of the two stores is right; if it is this one, stop the other orchestrator for " +
			"good, and use the subcommand restore with --since on this store; if not, remove this one",
	},
	{
		is: engine.ErrEpochAhead, reason: treatyv1.ErrorReason_ERROR_REASON_EPOCH_AHEAD,
		advice: "correct the clock and start the orchestrator again; if the clock is right, use the subcommand " +
			"restore with --epoch-from-clock and --since",
	},
	{
		is: engine.ErrRestoring, reason: treatyv1.ErrorReason_ERROR_REASON_RESTORING,
		advice: "start the participants that are down; if one is gone for good, remove it from the configuration, or " +
			"restore again with --trust",
	},
}

// notDriven returns why the engine drives no saga, or nil if it does.
func (s *Server) notDriven() *treatyv1.NotDriven {
	err := s.engine.Condition()
	for _, condition := range conditions {
		if errors.Is(err, condition.is) {
			return &treatyv1.NotDriven{Reason: condition.reason, Message: err.Error(), Advice: condition.advice}
		}
	}
	return nil
}

// shown returns a redacted copy of a saga, with the names of its child sagas and why it stands still. The original may
// share messages with the engine.
func (s *Server) shown(saga *treatyv1.Saga) *treatyv1.Saga {
	copied := redacted(saga)
	for _, step := range copied.GetSteps() {
		if _, is := s.catalog.SagaDefinition(step.GetMethod()); is {
			step.Child = childName(step.GetMethod(), step.GetName())
		}
	}
	if !slices.ContainsFunc(copied.GetSteps(), completable) {
		copied.PossibleDecisions = slices.DeleteFunc(copied.GetPossibleDecisions(), func(k treatyv1.DecisionKind) bool {
			return k == treatyv1.DecisionKind_DECISION_KIND_COMPLETE
		})
	}
	if saga.GetEndTime() == nil {
		copied.NotDriven = s.notDriven()
	}
	return copied
}

// completable returns whether a step's command may be completed: it has no end yet, and isn't a child saga, which ends
// by itself.
func completable(step *treatyv1.Step) bool {
	return step.GetChild() == "" && (step.GetState() == treatyv1.StepState_STEP_STATE_SCHEDULED ||
		step.GetState() == treatyv1.StepState_STEP_STATE_COMPENSATING)
}
