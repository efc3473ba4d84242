package childsaga_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"

	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/admission"
	"github.com/treatyhq/treaty/orchestrator/internal/childsaga"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

const (
	verifyApplicant     = "acme.identity.v1.IdentitySagas/VerifyApplicant"
	undoVerifyApplicant = "acme.identity.v1.IdentitySagas/UndoVerifyApplicant"
	changeAddress       = "acme.customer.v1.CustomerService/ChangeAddress"
)

// participants is a dispatcher that counts the attempts that reach it.
type participants struct {
	engine.Dispatcher

	attempts int
}

func (p *participants) Attempt(context.Context, *engine.Attempt) engine.Answer {
	p.attempts++
	return engine.Answer{Outcome: treatyv1.Outcome_OUTCOME_DONE}
}

func (p *participants) Admit(
	engine.Destination, *contract.CallConfig, admission.Claim, func(*admission.Slot),
) (*admission.Slot, *admission.Wait) {
	return nil, &admission.Wait{}
}

// fakeEngine answers as a test says.
type fakeEngine struct {
	err         error
	compensated bool
	started     []engine.StartParams
	undone      []engine.StartParams
	closed      []engine.StartParams
	completed   chan engine.Completion
}

func (f *fakeEngine) Start(_ context.Context, params engine.StartParams) (*engine.Handle, error) {
	f.started = append(f.started, params)
	return nil, f.err
}

func (f *fakeEngine) BeginCompensateChild(_ context.Context, params engine.StartParams) (bool, error) {
	f.undone = append(f.undone, params)
	return f.compensated, f.err
}

func (f *fakeEngine) CloseChild(_ context.Context, params engine.StartParams) (engine.Closed, error) {
	f.closed = append(f.closed, params)
	return engine.Closed{Verdict: engine.ClosedNow}, f.err
}

func (f *fakeEngine) KnownChild(context.Context, engine.StartParams) (engine.Known, error) {
	return engine.Known{Verdict: engine.NeverSeen}, f.err
}

func (f *fakeEngine) CompleteUnattended(completions ...engine.Completion) {
	for _, completion := range completions {
		f.completed <- completion
	}
}

func newChildren(t *testing.T, remote ...string) (*childsaga.Children, *participants, *fakeEngine) {
	t.Helper()
	catalog, err := contract.Load(protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	p, e := new(participants), &fakeEngine{completed: make(chan engine.Completion, 2)}
	children := childsaga.New(childsaga.Params{
		Participants: p, Observer: engine.NoObserver{}, Catalog: catalog, Definitions: []string{verifyApplicant},
		Remote: remote,
	})
	children.SetEngine(e)
	return children, p, e
}

func attempt(t *testing.T, method string, request proto.Message) *engine.Attempt {
	t.Helper()
	data, err := proto.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	return &engine.Attempt{
		Saga: "sagas/p", Step: "3", Number: 1, Call: &contract.CallConfig{Method: method}, Request: data,
	}
}

func TestLocal(t *testing.T) {
	here, _, _ := newChildren(t)
	elsewhere, _, _ := newChildren(t, "acme.identity.v1.IdentitySagas")
	for method, want := range map[string]bool{verifyApplicant: true, undoVerifyApplicant: true, changeAddress: false} {
		if here.Local(method) != want {
			t.Errorf("Local(%s) = %v, want %v", method, !want, want)
		}
		if elsewhere.Local(method) {
			t.Errorf("Local(%s) with a participant for the service", method)
		}
	}
}

func TestOtherCommandsGoToParticipants(t *testing.T) {
	children, p, e := newChildren(t)
	children.Attempt(t.Context(), attempt(t, changeAddress, &identityv1.VerifyApplicantRequest{}))
	if p.attempts != 1 || len(e.started) > 0 {
		t.Errorf("%d attempts reached participants, %d sagas were started", p.attempts, len(e.started))
	}
	waits := func(method string) bool {
		to, call := engine.Destination{Method: method}, &contract.CallConfig{Method: method}
		_, wait := children.Admit(to, call, admission.Claim{}, func(*admission.Slot) {})
		return wait != nil
	}
	if !waits(changeAddress) {
		t.Error("an open breaker doesn't hold back a participant's command")
	}
	if waits(verifyApplicant) {
		t.Error("a local child's command is held back")
	}
}

// Every attempt starts the same child, and an engine that fails leaves the outcome unknown.
func TestAttemptStartsTheChild(t *testing.T) {
	children, p, e := newChildren(t)
	e.err = errors.New("the store is locked")
	request := &identityv1.VerifyApplicantRequest{Customer: "customers/ada"}
	for range 2 {
		answer := children.Attempt(t.Context(), attempt(t, verifyApplicant, request))
		if answer.Outcome != treatyv1.Outcome_OUTCOME_UNKNOWN || answer.Pending != 0 {
			t.Errorf("got %+v, want an unknown outcome", answer)
		}
	}
	if p.attempts > 0 || len(e.started) != 2 {
		t.Fatalf("%d attempts reached participants, %d starts", p.attempts, len(e.started))
	}
	first, second := e.started[0], e.started[1]
	if first.SagaID != engine.ChildID(verifyApplicant, "sagas/p/steps/3") || first.SagaID != second.SagaID {
		t.Errorf("two attempts start %s and %s", first.SagaID, second.SagaID)
	}
	if !first.Parent.GetLocal() || first.Parent.GetCommandId() != "sagas/p/steps/3" {
		t.Errorf("the parent is %v", first.Parent)
	}
}

// A compensation is pending until the child is compensated.
func TestAttemptCompensatesTheChild(t *testing.T) {
	children, _, e := newChildren(t)
	action := &identityv1.VerifyApplicantRequest{Customer: "customers/ada"}
	undo := attempt(t, undoVerifyApplicant, &identityv1.UndoVerifyApplicantRequest{Action: action})
	if answer := children.Attempt(t.Context(), undo); answer.Pending == 0 {
		t.Errorf("a child that is being compensated: %+v, want pending", answer)
	}
	e.compensated = true
	if answer := children.Attempt(t.Context(), undo); answer.Outcome != treatyv1.Outcome_OUTCOME_DONE {
		t.Errorf("a child that is compensated: %+v, want done", answer)
	}
	got := new(identityv1.VerifyApplicantRequest)
	if err := proto.Unmarshal(e.undone[0].Request, got); err != nil || !proto.Equal(got, action) {
		t.Errorf("compensated with the request %v (%v), want %v", got, err, action)
	}
	undo.Request = []byte{0xff}
	if answer := children.Attempt(t.Context(), undo); answer.Outcome != treatyv1.Outcome_OUTCOME_REFUSED {
		t.Errorf("an unreadable request: %+v, want refused", answer)
	}
}

// A child that ends completes its parent's step, once for each direction in which the parent may wait.
func TestSagaEndedCompletesTheParent(t *testing.T) {
	parent := &treatyv1.Parent{CommandId: "sagas/p/steps/3", Local: true}
	failure := &treatyv1.Failure{Code: 9, Message: "no"}
	decided := func(cause treatyv1.CompensationCause) *treatyv1.CompensationDecided {
		return &treatyv1.CompensationDecided{Cause: cause, Failure: failure}
	}
	tests := []struct {
		name string
		saga machine.Saga
		want []engine.Direction
	}{
		{"succeeded", machine.Saga{State: treatyv1.SagaState_SAGA_STATE_SUCCEEDED}, []engine.Direction{engine.Action}},
		{"failed", machine.Saga{
			State:               treatyv1.SagaState_SAGA_STATE_COMPENSATED,
			CompensationDecided: decided(treatyv1.CompensationCause_COMPENSATION_CAUSE_FAILED),
		}, []engine.Direction{engine.Action, engine.Compensation}},
		{"compensated by the parent", machine.Saga{
			State:               treatyv1.SagaState_SAGA_STATE_COMPENSATED,
			CompensationDecided: decided(treatyv1.CompensationCause_COMPENSATION_CAUSE_PARENT),
		}, []engine.Direction{engine.Compensation}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			children, _, e := newChildren(t)
			test.saga.Started = &treatyv1.SagaStarted{Parent: parent}
			children.SagaEnded(&test.saga)
			close(e.completed)
			var got []engine.Direction
			for completion := range e.completed {
				if completion.Saga != "p" || completion.Step != "3" {
					t.Errorf("completed %+v", completion)
				}
				got = append(got, completion.Direction)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("completed %v, want %v", got, test.want)
			}
		})
	}
	t.Run("a parent elsewhere", func(t *testing.T) {
		children, _, e := newChildren(t)
		remote := &treatyv1.Parent{CommandId: "sagas/p/steps/3"}
		children.SagaEnded(&machine.Saga{
			Started: &treatyv1.SagaStarted{Parent: remote}, State: treatyv1.SagaState_SAGA_STATE_SUCCEEDED,
			EndTime: time.Unix(1, 0),
		})
		if len(e.completed) > 0 {
			t.Error("the step of a parent elsewhere was completed here")
		}
	})
}

func TestClosesLocalChildren(t *testing.T) {
	children, _, e := newChildren(t)
	a := attempt(t, verifyApplicant, &identityv1.VerifyApplicantRequest{DisplayName: "a"})
	if closed := children.CloseCommand(t.Context(), a); closed.Verdict != engine.ClosedNow {
		t.Errorf("got %v", closed)
	}
	if len(e.closed) != 1 || e.closed[0].SagaID != engine.ChildID(verifyApplicant, "sagas/p/steps/3") {
		t.Errorf("closed %v", e.closed)
	}
	if known := children.LookUp(t.Context(), a); known.Verdict != engine.NeverSeen {
		t.Errorf("got %v", known)
	}
	e.err = engine.ErrOtherRequest
	if closed := children.CloseCommand(t.Context(), a); closed.Verdict != engine.NotAnswered ||
		closed.Halt != engine.HaltOtherRequest {
		t.Errorf("got %v", closed)
	}
}
