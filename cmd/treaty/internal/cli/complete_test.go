package cli

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/treatyhq/treaty/cmd/treaty/internal/servertest"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// TestDecidedCompensation shows a saga one of whose compensations a person has completed. Its method was never
// executed.
func TestDecidedCompensation(t *testing.T) {
	undoing := compensated(t)
	undoing.State, undoing.EndTime = treatyv1.SagaState_SAGA_STATE_COMPENSATING, nil
	undoing.Steps[0] = reserveStep(t, "order-2", treatyv1.StepState_STEP_STATE_COMPENSATING)
	undoing.Steps[0].CompensationScheduleTime = at(ms(2000))
	byHand := compensated(t)
	byHand.Steps[0].CompensationDecision = &treatyv1.Decision{Actor: "ada", Reason: "released by hand"}
	byHand.Steps[0].Decision = byHand.Steps[0].GetCompensationDecision()
	for name, command := range map[string]string{"get_decided": "get", "watch_decided": "watch"} {
		t.Run(name, func(t *testing.T) {
			f := servertest.New(t)
			f.Sagas = []*treatyv1.Saga{byHand}
			f.Streams = []servertest.Stage{{Sagas: []*treatyv1.Saga{undoing, byHand}}}
			s := setup{args: []string{"sagas", command, "order-2"}, address: f.Address}
			golden(t, name, s, run(t, s))
		})
	}
}

// TestUndoTooLarge shows a saga one of whose compensations can't be sent. To send it again doesn't help.
func TestUndoTooLarge(t *testing.T) {
	saga := suspended(t, "large-1", treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_TOO_LARGE)
	saga.Suspension.Message = "the compensation of step 1 was never sent, because its request is too large"
	f := servertest.New(t)
	f.Sagas = []*treatyv1.Saga{saga}
	s := setup{args: []string{"sagas", "get", "large-1"}, address: f.Address}
	golden(t, "get_compensation_too_large", s, run(t, s))
}

// TestDecidedActions shows and watches a saga two of whose actions a person has decided. Their methods may never have
// been executed.
func TestDecidedActions(t *testing.T) {
	decision := &treatyv1.Decision{Actor: "ada", Reason: "compared, ticket 4711"}
	waiting := suspended(t, "decided-1", treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_PENDING)
	decided := suspended(t, "decided-1", treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_PENDING)
	decided.State, decided.Suspension, decided.Etag = treatyv1.SagaState_SAGA_STATE_RUNNING, nil, "next"
	refused := reserveStep(t, "decided-1", treatyv1.StepState_STEP_STATE_REFUSED)
	refused.Failure = &treatyv1.Failure{Code: int32(codes.FailedPrecondition), Message: "marked as refused"}
	refused.Name = "sagas/decided-1/steps/3"
	refused.Decision, refused.EndTime = decision, at(ms(990))
	decided.Steps[1].State, decided.Steps[1].Decision = treatyv1.StepState_STEP_STATE_DONE, decision
	decided.Steps[1].EndTime = at(ms(900))
	decided.Steps = append(decided.Steps, refused)
	ended := proto.CloneOf(decided)
	ended.State, ended.EndTime = treatyv1.SagaState_SAGA_STATE_SUCCEEDED, at(ms(1000))
	for name, command := range map[string]string{"get_decided_action": "get", "watch_decided_action": "watch"} {
		t.Run(name, func(t *testing.T) {
			f := servertest.New(t)
			f.Sagas = []*treatyv1.Saga{decided}
			f.Streams = []servertest.Stage{{Sagas: []*treatyv1.Saga{waiting, decided, ended}}}
			s := setup{args: []string{"sagas", command, "decided-1"}, address: f.Address}
			golden(t, name, s, run(t, s))
		})
	}
}
