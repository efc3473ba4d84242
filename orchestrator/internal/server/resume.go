package server

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/anypb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// ResumeSaga resumes a suspended saga as an operator decides.
func (s *Server) ResumeSaga(ctx context.Context, request *treatyv1.ResumeSagaRequest) (*treatyv1.Saga, error) {
	id, err := parseName("name", request.GetName())
	if err != nil {
		return nil, err
	}
	params, err := s.resumeParams(ctx, id, request)
	if err != nil {
		return nil, err
	}
	field := "mark_done.reply"
	if params.Action == machine.TakeOver {
		field = "take_over"
	}
	if err := invalidReply(field, s.engine.Resume(ctx, id, params)); err != nil {
		return nil, err
	}
	return s.view(ctx, id)
}

func (s *Server) resumeParams(
	ctx context.Context, id string, request *treatyv1.ResumeSagaRequest,
) (engine.ResumeParams, error) {
	decision, err := personsDecisionOf(ctx, request.GetDecision())
	if err != nil {
		return engine.ResumeParams{}, err
	}
	params := engine.ResumeParams{Decision: decision, Etag: request.GetEtag()}
	var held *anypb.Any
	var edited *treatyv1.ResumeSagaRequest_RetryEdited
	switch how := request.GetHow().(type) {
	case *treatyv1.ResumeSagaRequest_Retry_:
		params.Action = machine.Retry
		return params, nil
	case *treatyv1.ResumeSagaRequest_MarkRefused_:
		params.Action = machine.MarkRefused
		return params, nil
	case *treatyv1.ResumeSagaRequest_TakeOver_:
		params.Action = machine.TakeOver
		return params, nil
	case *treatyv1.ResumeSagaRequest_RetryEdited_:
		params.Action, held, edited = machine.RetryEdited, how.RetryEdited.GetRequest(), how.RetryEdited
	case *treatyv1.ResumeSagaRequest_MarkDone_:
		params.Action, held = machine.MarkDone, how.MarkDone.GetReply()
	default:
		return engine.ResumeParams{}, invalid("how", "is missing: choose retry, retry_edited, "+
			"mark_done, mark_refused or take_over")
	}
	// The decision applies only to the step for which the saga is suspended now, and the message is checked against it.
	saga, err := s.engine.Get(ctx, id)
	if err != nil {
		return engine.ResumeParams{}, err
	}
	if params.Etag != "" && params.Etag != saga.GetEtag() {
		return params, nil // the engine says what has changed
	}
	params.Step = saga.GetSuspension().GetStep()
	params.Payload, err = s.decidedPayload(saga, params.Action, held, edited)
	return params, err
}

// decidedPayload checks the message of a decision against the contract of the command that it is for. edited is set for
// an edited request.
func (s *Server) decidedPayload(
	saga *treatyv1.Saga, how machine.ResumeAction, held *anypb.Any, edited *treatyv1.ResumeSagaRequest_RetryEdited,
) ([]byte, error) {
	step, action := suspendedStep(saga)
	switch {
	case saga.GetSuspension() == nil:
		return nil, machine.ErrNotSuspended
	case step == nil:
		advice := "retry it"
		if slices.Contains(saga.GetPossibleDecisions(), treatyv1.DecisionKind_DECISION_KIND_CANCEL) {
			advice = "retry or cancel it"
		}
		return nil, fmt.Errorf("%w: the saga isn't suspended for a command; %s", machine.ErrDecisionUnfit, advice)
	case action && how == machine.RetryEdited:
		return nil, fmt.Errorf("%w: the action of %s is stuck, and only a compensation can be sent with another "+
			"request; retry it, mark it done with its reply, or mark it refused",
			machine.ErrDecisionUnfit, step.GetName())
	case how == machine.MarkDone && held == nil && !action:
		return nil, nil
	}
	method := step.GetCompensationMethod()
	if action {
		method = step.GetMethod()
	}
	call, known := s.catalog.CallConfig(method)
	if !known {
		return nil, &apiError{
			code: codes.FailedPrecondition, reason: treatyv1.ErrorReason_ERROR_REASON_CONTRACT_UNKNOWN,
			message: fmt.Sprintf("the contract of %s isn't linked into this orchestrator, so the message can't be "+
				"checked: link it, or choose retry", method),
		}
	}
	field, wanted := "mark_done.reply", call.Output
	if how == machine.RetryEdited {
		field, wanted = "retry_edited.request", call.Input
	}
	if err := checkMessage(field, held, wanted); err != nil {
		return nil, err
	}
	if how == machine.MarkDone {
		if err := s.checkPublishable(field, held); err != nil {
			return nil, err
		}
	}
	if how == machine.RetryEdited && len(edited.GetUpdateMask().GetPaths()) > 0 {
		return s.editedRequest(step, call.Input, edited)
	}
	if how == machine.RetryEdited && len(held.GetValue()) == 0 {
		return nil, invalid(field, "is empty, which would mean the derived request: set a field, or choose retry")
	}
	if held.GetValue() == nil {
		return []byte{}, nil
	}
	return held.GetValue(), nil
}

// suspendedStep returns the step for which a saga is suspended, and whether its action is stuck, not its compensation.
// It returns nil when the saga isn't suspended for a step.
func suspendedStep(saga *treatyv1.Saga) (step *treatyv1.Step, action bool) {
	name := wire.JoinStep(saga.GetName(), saga.GetSuspension().GetStep())
	for _, candidate := range saga.GetSteps() {
		if candidate.GetName() == name {
			step = candidate
		}
	}
	switch saga.GetSuspension().GetReason() {
	case treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_REFUSED,
		treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_EXHAUSTED,
		treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_TOO_LARGE:
		return step, false
	case treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_UNKNOWN,
		treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_PENDING,
		treatyv1.SuspensionReason_SUSPENSION_REASON_RETRIABLE_UNKNOWN:
		return step, true
	case treatyv1.SuspensionReason_SUSPENSION_REASON_OTHER_REQUEST,
		treatyv1.SuspensionReason_SUSPENSION_REASON_PURGED:
		return step, step.GetState() != treatyv1.StepState_STEP_STATE_COMPENSATING
	default:
		return nil, false
	}
}
