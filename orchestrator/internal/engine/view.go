package engine

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// Get returns a saga as it is stored, with its steps and the attempts of its commands in flight. Payloads are complete:
// the caller redacts them. Of a saga that is suspended since a key is missing, only what its row holds is returned. The
// errors are journal.ErrNotFound, journal.ErrCorrupt, journal.ErrKey and machine.ErrJournal.
func (e *Engine) Get(ctx context.Context, id string) (*treatyv1.Saga, error) {
	saga, err := e.loader.read(ctx, id)
	if err != nil {
		if view := viewWithoutKey(err); view != nil {
			return view, nil
		}
		return nil, err
	}
	view := e.view(saga)
	return view, e.viewChildren(ctx, view)
}

// maxChildrenRead bounds how many child sagas are read for one view of their parent.
const maxChildrenRead = 100

// viewChildren says why children of this engine that a saga waits for are suspended.
func (e *Engine) viewChildren(ctx context.Context, view *treatyv1.Saga) error {
	left := maxChildrenRead
	for _, step := range view.GetSteps() {
		waits := step.GetState() == treatyv1.StepState_STEP_STATE_SCHEDULED ||
			step.GetState() == treatyv1.StepState_STEP_STATE_COMPENSATING
		if !waits || left == 0 || e.config.Local == nil || !e.config.Local(step.GetMethod()) {
			continue
		}
		left--
		row, err := e.config.Store.Get(ctx, ChildID(step.GetMethod(), step.GetName()))
		switch {
		case errors.Is(err, journal.ErrNotFound):
		case err != nil:
			return fmt.Errorf("reading the child saga of %s: %w", step.GetName(), err)
		case row.State == treatyv1.SagaState_SAGA_STATE_SUSPENDED:
			step.ChildSuspension = row.Suspension
		}
	}
	return nil
}

// view returns a saga with the attempts of its commands in flight.
func (e *Engine) view(saga *machine.Saga) *treatyv1.Saga {
	view := e.config.viewSaga(saga)
	var neverSent func(step string) bool
	if inst := e.register.find(saga.ID); inst != nil {
		inst.viewDeliveries(view)
		inst.viewUnserved(view)
		neverSent = inst.neverSent
	}
	view.PossibleDecisions = saga.Decisions(neverSent)
	if e.gate.closed() {
		view.PossibleDecisions = nil
		for _, step := range view.GetSteps() {
			if step.GetAttempts() != nil {
				step.Attempts.NextTime = nil // there is none
			}
		}
	}
	return view
}

func (c *Config) viewSaga(saga *machine.Saga) *treatyv1.Saga {
	name := wire.SagaName(saga.ID)
	view := &treatyv1.Saga{
		Name: name, Definition: saga.Started.GetDefinition(), State: saga.State,
		Failure: saga.CompensationDecided.GetFailure(), Cause: saga.CompensationDecided.GetCause(),
		Suspension: saga.Suspension, RequestId: saga.Started.GetRequestId(),
		Principal: saga.Started.GetPrincipal(),
		Labels:    saga.Started.GetLabels(), CreateTime: timestamp(saga.CreateTime),
		UpdateTime: timestamp(saga.UpdateTime),
		EndTime:    timestamp(saga.EndTime), Deadline: saga.Started.GetDeadline(),
		TraceId: hex.EncodeToString(saga.Started.GetTrace().GetTraceId()),
	}
	var input, output protoreflect.MessageDescriptor
	if definition, known := c.Catalog.SagaDefinition(saga.Started.GetDefinition()); known {
		input, output = definition.Input, definition.Output
	}
	view.Request = packed(input, saga.Started.GetRequest())
	if saga.State == treatyv1.SagaState_SAGA_STATE_SUCCEEDED {
		view.Reply = packed(output, saga.Reply)
	}
	view.Progress, view.ParentStep, view.Round = saga.Progress, saga.Started.GetParent().GetCommandId(), int32(
		saga.Round)
	view.ParentKind = saga.Started.GetParent().GetKind()
	view.Etag = machine.Etag(saga.Revision)
	view.Warning = saga.Warning()
	if wrong := changedWait(c.Catalog, saga); wrong != nil && !saga.Final() {
		view.Warning = fmt.Sprintf("at %s, it awaits %s: %s", wrong.GetStep(), wrong.GetExpected(), wrong.GetFound())
	}
	if saga.State == treatyv1.SagaState_SAGA_STATE_RUNNING {
		for _, wait := range saga.Waits {
			view.Waits = append(view.Waits, &treatyv1.Wait{
				Wait: wait.Scheduled.GetWait(), DueTime: wait.Scheduled.GetDue(), Events: wait.Scheduled.GetEvents(),
				ScheduleTime: timestamp(wait.ScheduleTime),
			})
		}
	}
	for _, scope := range saga.Scopes {
		view.Scopes = append(view.Scopes, &treatyv1.Scope{
			Scope: scope.Decided.GetScope(), Cause: scope.Decided.GetCause(), Failure: scope.Decided.GetFailure(),
			DecideTime: timestamp(scope.DecideTime),
		})
	}
	for _, step := range saga.Steps {
		view.Steps = append(view.Steps, c.viewStep(saga.ID, step))
	}
	return view
}

func (c *Config) viewStep(sagaID string, step *machine.Step) *treatyv1.Step {
	scheduled := step.Scheduled
	view := &treatyv1.Step{
		Name: wire.StepName(sagaID, step.Path()), Method: scheduled.GetMethod(), Kind: scheduled.GetKind(),
		State:   step.State,
		Failure: step.Failure, CompensationMethod: scheduled.GetCompensation().GetMethod(), Decision: step.Decision,
		ScheduleTime: timestamp(step.ScheduleTime), EndTime: timestamp(step.EndTime),
		CompensationScheduleTime: timestamp(step.CompensationScheduleTime),
		CompensationEndTime:      timestamp(step.CompensationEndTime),
		Participant:              scheduled.GetParticipant(), MayHaveRun: step.MayHaveRun,
		CompensationDecision: step.CompensationDecision, Principal: step.Principal,
		CompensationPrincipal: step.CompensationPrincipal,
	}
	var input, output protoreflect.MessageDescriptor
	if command, known := c.Catalog.Command(scheduled.GetMethod()); known {
		input, output = command.Input, command.Output
	}
	view.Request = packed(input, scheduled.GetRequest())
	if step.Reply != nil {
		view.Reply = packed(output, step.Reply)
	}
	if step.Attempts > 0 {
		view.Attempts = &treatyv1.Attempts{Count: step.Attempts}
	}
	return view
}

// packed puts a payload into an Any. It returns nil when the contract isn't linked.
func packed(message protoreflect.MessageDescriptor, payload []byte) *anypb.Any {
	if message == nil {
		return nil
	}
	return &anypb.Any{TypeUrl: "type.googleapis.com/" + string(message.FullName()), Value: payload}
}

func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// viewDeliveries adds the attempts of commands in flight to a view.
func (i *instance) viewDeliveries(view *treatyv1.Saga) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, step := range view.GetSteps() {
		direction := Action
		if step.GetState() == treatyv1.StepState_STEP_STATE_COMPENSATING {
			direction = Compensation
		}
		d := i.deliveries.get(deliveryKey{wire.StepPath(step.GetName()), direction})
		if d == nil || d.ended {
			continue
		}
		step.Attempts = &treatyv1.Attempts{
			Count: uint32(d.attempts), LastFailure: d.last.Failure, Accepted: d.accepted,
			NextTime: timestamp(d.nextTime),
		}
		if d.queued {
			down := d.isDown()
			step.Attempts.Parked, step.Attempts.Queued = down, !down
			if down && d.whyParked != nil {
				step.Attempts.ParkedReason = d.whyParked()
			}
			if down && step.Attempts.LastFailure == nil && step.Attempts.ParkedReason == "" {
				step.Attempts.LastFailure = d.unreachable()
			}
		}
		// An answer that the store was replaced says nothing about the command.
		if d.last.Outcome != treatyv1.Outcome_OUTCOME_UNSPECIFIED && d.last.Halt != HaltReplaced {
			step.Attempts.LastOutcome = strings.ToLower(strings.TrimPrefix(d.last.Outcome.String(), "OUTCOME_"))
		}
	}
}

// unreachable returns why the participant of a command can't be reached, as the status that an attempt would have had.
// It returns nil if that isn't known.
func (d *delivery) unreachable() *treatyv1.Failure {
	if d.whyDown == nil {
		return nil
	}
	why := d.whyDown()
	if why == "" {
		return nil
	}
	return &treatyv1.Failure{Code: int32(codes.Unavailable), Message: why}
}

// viewUnserved adds the broadcasts in which nobody takes part to a view.
func (i *instance) viewUnserved(view *treatyv1.Saga) {
	if view.GetState() != treatyv1.SagaState_SAGA_STATE_RUNNING {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, path := range slices.Sorted(maps.Keys(i.unserved)) {
		view.Waits = append(view.Waits, &treatyv1.Wait{Wait: path, Broadcast: i.unserved[path]})
	}
}
