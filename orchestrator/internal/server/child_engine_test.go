package server_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	"github.com/treatyhq/treaty/gen/acme/identity/v1/identityv1saga"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/admission"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/journaltest"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
	"github.com/treatyhq/treaty/orchestrator/internal/sagacode"
	"github.com/treatyhq/treaty/orchestrator/internal/server"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// verifying is saga code that waits for an event between two commands.
type verifying struct{}

func (verifying) VerifyApplicant(
	ctx saga.Context, in *identityv1.VerifyApplicantRequest,
) (*identityv1.ApplicantConfirmed, error) {
	registered, err := identityv1saga.RegisterApplicant(
		ctx, &identityv1.RegisterApplicantRequest{Customer: in.GetCustomer()},
	)
	if err != nil {
		return nil, err
	}
	verified, err := identityv1saga.AwaitApplicantVerified(ctx, registered.GetApplicant())
	if err != nil {
		return nil, err
	}
	inspected, err := identityv1saga.InspectPassport(
		ctx, &identityv1.InspectPassportRequest{Applicant: verified.GetApplicant()},
	)
	if err != nil {
		return nil, err
	}
	return &identityv1.ApplicantConfirmed{
		Applicant: registered.GetApplicant(), Verified: verified, Inspected: inspected,
	}, nil
}

// registry holds the registered saga code by definition.
type registry map[string]machine.Code

func (r registry) RegisterSaga(definition saga.Definition) {
	r[definition.Name] = sagacode.Of(definition)
}

// identityService is a dispatcher that replies as the identity service: inspections stay pending, and every other
// command is done at once.
type identityService struct {
	accepted chan string // the command ids of inspections

	mu    sync.Mutex
	calls []string
}

func (r *identityService) Attempt(_ context.Context, a *engine.Attempt) engine.Answer {
	r.mu.Lock()
	r.calls = append(r.calls, a.Call.Method[len("acme.identity.v1.IdentityService/"):])
	r.mu.Unlock()
	switch a.Call.Method {
	case identityv1.IdentityService_RegisterApplicant_FullMethodName[1:]:
		reply, err := proto.Marshal(&identityv1.ApplicantRegistered{Applicant: "applicants/1"})
		if err != nil {
			return engine.Answer{
				Outcome: treatyv1.Outcome_OUTCOME_UNKNOWN, Failure: &treatyv1.Failure{Code: int32(codes.Internal)},
			}
		}
		return engine.Answer{Outcome: treatyv1.Outcome_OUTCOME_DONE, Reply: reply}
	case identityv1.IdentityService_InspectPassport_FullMethodName[1:]:
		r.accepted <- a.Saga + "/steps/" + a.Step
		return engine.Answer{
			Outcome: treatyv1.Outcome_OUTCOME_UNKNOWN,
			Failure: &treatyv1.Failure{Code: int32(codes.Unknown)},
			Pending: time.Hour,
		}
	}
	return engine.Answer{Outcome: treatyv1.Outcome_OUTCOME_DONE}
}

func (*identityService) Delay(*contract.CallConfig, int, engine.Answer) time.Duration { return 0 }

func (*identityService) Admit(
	engine.Destination, *contract.CallConfig, admission.Claim, func(*admission.Slot),
) (*admission.Slot, *admission.Wait) {
	return nil, nil
}

func (*identityService) FirstWaitsSince(string) (time.Time, bool) { return time.Time{}, false }

func (*identityService) CloseCommand(context.Context, *engine.Attempt) engine.Closed {
	return engine.Closed{Verdict: engine.NotKept}
}

func (*identityService) LookUp(context.Context, *engine.Attempt) engine.Known {
	return engine.Known{Verdict: engine.NotKept}
}

func (*identityService) TakingPart(string) []string { return nil }

// newEngineServer returns a server with a real engine.
func newEngineServer(t *testing.T) (*testServer, *identityService) {
	t.Helper()
	code := registry{}
	identityv1saga.RegisterIdentitySagas(code, verifying{})
	a, identity := &testServer{t: t, memory: journaltest.NewMemory()}, &identityService{accepted: make(chan string, 10)}
	e, err := engine.New(t.Context(), engine.Config{Store: a.memory, Dispatcher: identity, Catalog: catalogOf(t),
		Definitions: code})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		e.Stop(context.Background())
	})
	a.serve(server.Config{Engine: server.Drive(e), Store: a.memory, Definitions: []string{verifyApplicant}}, nil)
	return a, identity
}

// A child saga, called the way a parent's orchestrator calls it: it starts, waits for an event, then for a pending
// command, succeeds, and is compensated.
func TestChildFromStartToCompensation(t *testing.T) {
	a, identity := newEngineServer(t)
	client := identityv1.NewIdentitySagasClient(a.conn)
	attempt := func(timeout time.Duration) (*identityv1.ApplicantConfirmed, metadata.MD, error) {
		ctx, cancel := context.WithTimeout(asStep(t.Context(), "action"), timeout)
		defer cancel()
		var trailer metadata.MD
		reply, err := client.VerifyApplicant(ctx, verification("order-1"), grpc.Trailer(&trailer))
		return reply, trailer, err
	}
	if reply, trailer, err := attempt(time.Second); err != nil || len(trailer.Get(wire.PendingKey)) == 0 {
		t.Fatalf("the first attempt: %v with %v, %v", reply, trailer, err)
	}
	name := "sagas/" + engine.ChildID(verifyApplicant, parentStep)
	waiting, err := a.sagas.GetSaga(a.ctx(), &treatyv1.GetSagaRequest{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	if waits := waiting.GetWaits(); len(waits) != 1 || waits[0].GetEvents()[0].GetSubject() != "applicants/1" ||
		waiting.GetParentStep() != parentStep {
		t.Errorf("the child is %v", waiting)
	}

	a.publishAll(verified(t, "1", "applicants/1"))
	command := <-identity.accepted
	inspected := &identityv1.PassportInspected{Inspection: "inspections/1"}
	if _, err := a.sagas.HeartbeatStep(
		a.ctx(), &treatyv1.HeartbeatStepRequest{Name: command, Direction: action},
	); err != nil {
		t.Error(err)
	}
	for range 2 { // as if the first reply were lost
		if _, err := a.sagas.CompleteStep(
			a.ctx(), &treatyv1.CompleteStepRequest{Name: command, Direction: action, How: replied(pack(t, inspected))},
		); err != nil {
			t.Fatal(err)
		}
	}
	reply, trailer, err := attempt(20 * time.Second)
	if err != nil || !proto.Equal(reply.GetInspected(), inspected) || len(trailer.Get(wire.PendingKey)) > 0 {
		t.Fatalf("the last attempt: %v with %v, %v", reply, trailer, err)
	}
	_, err = a.sagas.HeartbeatStep(a.ctx(), &treatyv1.HeartbeatStepRequest{Name: command, Direction: action})
	if got := failureOf(t, err); got.reason != treatyv1.ErrorReason_ERROR_REASON_STEP_ENDED {
		t.Errorf("a heartbeat for a step that is done: %+v (%v)", got, err)
	}

	undo := &identityv1.UndoVerifyApplicantRequest{Action: verification("order-1"), Reply: reply}
	for range 2 { // as if the first reply were lost
		if _, err := client.UndoVerifyApplicant(asStep(a.ctx(), "compensation"), undo); err != nil {
			t.Fatal(err)
		}
	}
	undone, err := a.sagas.WaitSaga(a.ctx(), &treatyv1.WaitSagaRequest{Name: name})
	if err != nil || undone.GetState() != treatyv1.SagaState_SAGA_STATE_COMPENSATED {
		t.Errorf("the undone child is %v (%v)", undone, err)
	}
	if want := []string{"RegisterApplicant", "InspectPassport", "DiscardInspection",
		"WithdrawApplicant"}; !slices.Equal(identity.calls, want) {
		t.Errorf("commands %v, want %v", identity.calls, want)
	}
	if _, _, err := attempt(20 * time.Second); failureOf(t,
		err).reason != treatyv1.ErrorReason_ERROR_REASON_COMPENSATED_BY_PARENT {
		t.Errorf("an attempt after that: %v", err)
	}
}

// Compensating a child that never started is recorded, and refuses its start when that arrives later.
func TestChildIsCompensatedBeforeItStarts(t *testing.T) {
	a, identity := newEngineServer(t)
	client := identityv1.NewIdentitySagasClient(a.conn)
	for ctx := asStep(a.ctx(), "compensation"); ; {
		_, err := client.UndoVerifyApplicant(ctx, &identityv1.UndoVerifyApplicantRequest{Action: verification("")})
		if err == nil {
			break
		}
		if status.Code(err) != codes.Unavailable { // for which a parent sends the command again
			t.Fatal(err)
		}
	}
	_, err := client.VerifyApplicant(asStep(a.ctx(), "action"), verification(""))
	want := failure{
		code:   codes.FailedPrecondition,
		reason: treatyv1.ErrorReason_ERROR_REASON_COMPENSATED_BY_PARENT,
		saga:   "sagas/" + engine.ChildID(verifyApplicant, parentStep),
	}
	if got := failureOf(t, err); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if len(identity.calls) > 0 {
		t.Errorf("commands %v", identity.calls)
	}
}
