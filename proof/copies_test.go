//go:build proof

package proof

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/services/demo/company"
)

// TestTwoCopies serves a backup while the original store is still served. The original notices that it was replaced,
// and drives no saga any more, also after a restart. The copy drives all of them.
func TestTwoCopies(t *testing.T) {
	ctx := t.Context()
	acme := openQuick(t)
	_, customers := createCustomers(ctx, t, acme, "Mover")
	waiting := begin(ctx, t, acme, verifyApplicant, &identityv1.VerifyApplicantRequest{
		RequestId: "waiting", Customer: customers[0], DisplayName: "Waiting", PassportNumber: "ZZ0000001",
		ConfirmWithin: durationpb.New(time.Hour),
	})
	applicant := awaited(t, acme, waiting)
	backup := filepath.Join(acme.Dir, "backup.db")
	if err := acme.Backup(ctx, backup); err != nil {
		t.Fatal(err)
	}
	second, err := acme.AddCopy(backup)
	if err != nil {
		t.Fatal(err)
	}

	// A copy must not take over by being looked at.
	if err := second.Start(); err != nil {
		t.Fatal(err)
	}
	var died *company.DiedError
	if err := acme.ReadyProcess(ctx, company.Copy); !errors.As(err, &died) {
		t.Fatalf("waiting for a backup that wasn't restored: %v; want that its orchestrator ended", err)
	}
	if said := second.Tail(1); !strings.Contains(said, "restore") {
		t.Errorf("it doesn't say that it has to be restored: %s", said)
	}
	move := func(on, id string) error {
		message, err := anypb.New(&customerv1.ChangeAddressSagaRequest{
			RequestId: id, Customer: customers[1],
			Address: &customerv1.Address{Lines: []string{"Street " + id}, City: "Delft", Country: "NL"},
		})
		if err != nil {
			t.Fatal(err)
		}
		sagas := treatyv1.NewSagaServiceClient(acme.Conn(on))
		saga, err := sagas.CreateSaga(ctx, &treatyv1.CreateSagaRequest{Definition: changeAddress, Request: message})
		if err != nil || on == company.Orchestrator {
			return err
		}
		_, err = sagas.WaitSaga(ctx, &treatyv1.WaitSagaRequest{Name: saga.GetName()})
		return err
	}
	if err := move(company.Orchestrator, "before"); err != nil {
		t.Fatal(err)
	}

	if err := acme.RestoreCopy(ctx, backup); err != nil {
		t.Fatal(err)
	}
	if err := second.Start(); err != nil {
		t.Fatal(err)
	}
	if err := acme.ReadyProcess(ctx, company.Copy); err != nil {
		t.Fatal(err)
	}
	if err := move(company.Copy, "after"); err != nil {
		t.Fatal(err)
	}
	// The original finds out when it sends the next command, whose saga doesn't continue.
	if err := move(company.Orchestrator, "too late"); err != nil {
		t.Fatal(err)
	}
	health := func(service string, want healthv1.HealthCheckResponse_ServingStatus) {
		t.Helper()
		watch, err := healthv1.NewHealthClient(acme.Conn(company.Orchestrator)).Watch(ctx,
			&healthv1.HealthCheckRequest{Service: service}, grpc.WaitForReady(true))
		for err == nil {
			var now *healthv1.HealthCheckResponse
			if now, err = watch.Recv(); now.GetStatus() == want {
				return
			}
		}
		t.Fatalf("the health of %q: %v", service, err)
	}
	replaced := func() {
		t.Helper()
		health("", healthv1.HealthCheckResponse_NOT_SERVING)
		health("live", healthv1.HealthCheckResponse_SERVING)
		err := move(company.Orchestrator, "refused")
		if status.Code(err) != codes.Unavailable ||
			reasonOf(err) != treatyv1.ErrorReason_ERROR_REASON_STORE_REPLACED {
			t.Errorf("a start: got %v", err)
		}
	}
	replaced()
	if err := acme.Process(company.Orchestrator).Kill(); err != nil {
		t.Fatal(err)
	}
	if err := acme.Process(company.Orchestrator).Start(); err != nil {
		t.Fatal(err)
	}
	replaced()

	// The copy goes on with what waits, and knows what it lacks.
	publishTo(ctx, t, acme.Conn(company.Copy), applicant)
	copied := treatyv1.NewSagaServiceClient(acme.Conn(company.Copy))
	ended, err := copied.WaitSaga(ctx, &treatyv1.WaitSagaRequest{Name: waiting})
	if err != nil || ended.GetState() != treatyv1.SagaState_SAGA_STATE_SUCCEEDED {
		t.Errorf("the waiting saga ended as %v, %v", ended.GetState(), err)
	}
	lost, err := copied.ListLostSagas(ctx, &treatyv1.ListLostSagasRequest{})
	if err != nil || len(lost.GetLostSagas()) != 1 {
		t.Errorf("lost are %v, %v; want the saga that was started after the backup", lost.GetLostSagas(), err)
	}
	left, err := treatyv1.NewSagaServiceClient(acme.Conn(company.Orchestrator)).GetSaga(ctx,
		&treatyv1.GetSagaRequest{Name: waiting})
	if err != nil || left.GetState() != treatyv1.SagaState_SAGA_STATE_RUNNING {
		t.Errorf("the original has the waiting saga as %v, %v", left.GetState(), err)
	}
}
