package orchestrator_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/gen/acme/customer/v1/customerv1saga"
	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	"github.com/treatyhq/treaty/gen/acme/identity/v1/identityv1saga"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/orchestrator"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// registerParent registers a saga that has another one as its first step, and then works itself. It fails when the
// address says so.
func registerParent(r saga.Registrar) {
	saga.Register(r, customerv1.CustomerSagas_ChangeAddress_FullMethodName,
		func(ctx saga.Context, in *customerv1.ChangeAddressSagaRequest) (*customerv1.AddressAgreed, error) {
			confirmed, err := identityv1saga.VerifyApplicant(ctx,
				&identityv1.VerifyApplicantRequest{RequestId: "ignored", Customer: in.GetCustomer()})
			if err != nil {
				return nil, err
			}
			if in.GetAddress().GetLines()[0] == "fail" {
				return nil, status.Error(codes.FailedPrecondition, "no longer wanted")
			}
			return &customerv1.AddressAgreed{Customer: confirmed.GetApplicant()}, nil
		})
}

// registerChild registers the saga that is a step.
func registerChild(r saga.Registrar) {
	saga.Register(r, identityv1.IdentitySagas_VerifyApplicant_FullMethodName,
		func(ctx saga.Context, in *identityv1.VerifyApplicantRequest) (*identityv1.ApplicantConfirmed, error) {
			if in.GetCustomer() == "customers/nobody" {
				// a code that means something else to a parent
				return nil, status.Error(codes.Unavailable, "the house is empty")
			}
			if _, err := customerv1saga.ChangeAddress(ctx,
				&customerv1.ChangeAddressRequest{Customer: in.GetCustomer()}); err != nil {
				return nil, err
			}
			return &identityv1.ApplicantConfirmed{Applicant: "applicants/ada"}, nil
		})
}

// family is a parent's orchestrator and a child's, which may be the same.
type family struct{ parent, child *system }

func families(t *testing.T) map[string]func(t *testing.T) family {
	t.Helper()
	return map[string]func(t *testing.T) family{
		"at the same orchestrator": func(t *testing.T) family {
			w := unopened(t, newParticipants(t))
			w.register = func(r saga.Registrar) { registerParent(r); registerChild(r) }
			w.open()
			return family{w, w}
		},
		"at another one": func(t *testing.T) family {
			child := unopened(t, newParticipants(t))
			child.register = registerChild
			child.open()
			parent := unopened(t, child.participants)
			parent.register = registerParent
			parent.options = []orchestrator.Option{orchestrator.WithParticipant("acme.identity.v1.IdentitySagas",
				child.ready.Address)}
			parent.open()
			return family{parent, child}
		},
	}
}

func (f family) children(t *testing.T) []*treatyv1.Saga {
	t.Helper()
	list, err := f.child.sagas.ListSagas(f.child.ctx(),
		&treatyv1.ListSagasRequest{Filter: `definition = "acme.identity.v1.IdentitySagas/VerifyApplicant"`})
	if err != nil {
		t.Fatal(err)
	}
	var whole []*treatyv1.Saga
	for _, saga := range list.GetSagas() {
		got, err := f.child.sagas.GetSaga(f.child.ctx(), &treatyv1.GetSagaRequest{Name: saga.GetName()})
		if err != nil {
			t.Fatal(err)
		}
		whole = append(whole, got)
	}
	return whole
}

func TestChild(t *testing.T) {
	for where, newFamily := range families(t) {
		t.Run("succeeds "+where, func(t *testing.T) {
			f := newFamily(t)
			agreed, err := f.parent.acme.ChangeAddress(f.parent.ctx(), move("1", "fine"))
			if err != nil || agreed.GetCustomer() != "applicants/ada" {
				t.Fatalf("got %v, %v", agreed, err)
			}
			children := f.children(t)
			if len(children) != 1 || !strings.HasSuffix(children[0].GetParentStep(), "/steps/1") ||
				children[0].GetState() != treatyv1.SagaState_SAGA_STATE_SUCCEEDED {
				t.Errorf("children: %v", children)
			}
		})
		t.Run("is undone after it succeeded "+where, func(t *testing.T) {
			f := newFamily(t)
			_, err := f.parent.acme.ChangeAddress(f.parent.ctx(), move("1", "fail"))
			if status.Code(err) != codes.FailedPrecondition {
				t.Fatalf("got %v", err)
			}
			if calls := f.child.participants.seen(); calls != "ChangeAddress RestoreAddress" {
				t.Errorf("called %s", calls)
			}
			children := f.children(t)
			if len(children) != 1 || children[0].GetState() != treatyv1.SagaState_SAGA_STATE_COMPENSATED ||
				children[0].GetCause() != treatyv1.CompensationCause_COMPENSATION_CAUSE_PARENT {
				t.Errorf("children: %v", children)
			}
		})
		t.Run("refuses "+where, func(t *testing.T) {
			f := newFamily(t)
			request := move("1", "fine")
			request.Customer = "customers/nobody"
			_, err := f.parent.acme.ChangeAddress(f.parent.ctx(), request)
			if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "the house is empty") {
				t.Fatalf("got %v", err)
			}
		})
	}
}

// TestChildAtAnOrchestratorThatIsDown checks that the parent waits until the child's orchestrator is up.
func TestChildAtAnOrchestratorThatIsDown(t *testing.T) {
	address := testkit.UnusedAddress(t)
	parent := unopened(t, newParticipants(t))
	parent.register = registerParent
	parent.options = []orchestrator.Option{orchestrator.WithParticipant("acme.identity.v1.IdentitySagas", address)}
	parent.open()
	answer, ctx := make(chan error, 1), parent.ctx()
	var calling sync.WaitGroup
	t.Cleanup(calling.Wait)
	calling.Go(func() {
		_, err := parent.acme.ChangeAddress(ctx, move("1", "fine"))
		answer <- err
	})
	waitFor(t, parent, func(saga *treatyv1.Saga) bool {
		return len(saga.GetSteps()) == 1 && saga.GetSteps()[0].GetAttempts().GetParked()
	})
	child := unopened(t, parent.participants)
	child.register, child.address = registerChild, address
	child.open()
	if err := <-answer; err != nil {
		t.Error(err)
	}
}

// waitFor watches the orchestrator's only saga until it satisfies a condition.
func waitFor(t *testing.T, w *system, wanted func(*treatyv1.Saga) bool) {
	t.Helper()
	ctx := w.ctx()
	for {
		list, err := w.sagas.ListSagas(ctx, &treatyv1.ListSagasRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if len(list.GetSagas()) == 1 {
			saga, err := w.sagas.GetSaga(ctx, &treatyv1.GetSagaRequest{Name: list.GetSagas()[0].GetName()})
			if err != nil {
				t.Fatal(err)
			}
			if wanted(saga) {
				return
			}
		}
	}
}

// TestUndoIsNotForClients calls the method that undoes a child as a client would.
func TestUndoIsNotForClients(t *testing.T) {
	w := unopened(t, newParticipants(t))
	w.register = registerChild
	w.open()
	conn := testkit.Dial(t, w.ready.Address)
	_, err := identityv1.NewIdentitySagasClient(conn).UndoVerifyApplicant(w.ctx(),
		&identityv1.UndoVerifyApplicantRequest{})
	if status.Code(err) != codes.FailedPrecondition {
		t.Errorf("got %v", err)
	}
}

// TestChildEndsBetweenTwoCalls lets a child at another orchestrator take longer than the call that started it is held,
// which is 4 s. Its end is known at the parent's within a second or so.
func TestChildEndsBetweenTwoCalls(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	f := families(t)["at another one"](t)
	release := f.child.participants.stallCustomer()
	defer release()
	answer := make(chan error, 1)
	ctx := f.parent.ctx()
	go func() {
		_, err := f.parent.acme.ChangeAddress(ctx, move("1", "fine"))
		answer <- err
	}()
	<-f.child.participants.held
	select {
	case err := <-answer:
		t.Fatalf("the parent has ended before its child: %v", err)
	case <-time.After(4200 * time.Millisecond):
	}
	release()
	released := time.Now()
	if err := <-answer; err != nil {
		t.Fatal(err)
	}
	if took := time.Since(released); took > 2*time.Second {
		t.Errorf("the parent knew of its child's end after %v", took)
	}
}
