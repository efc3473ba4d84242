//go:build proof

package proof

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/services/demo/company"
)

// TestGrpcurlWakesASaga wakes a saga with an event that a real grpcurl publishes, using server reflection only. The
// orchestrator is killed while the saga waits.
func TestGrpcurlWakesASaga(t *testing.T) {
	grpcurl, err := filepath.Abs(filepath.Join("..", "bin", "grpcurl"))
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	acme, err := company.Open(ctx, company.Params{
		Dir: t.TempDir(), GoOnly: true, RegisterLatency: 10 * time.Millisecond, InspectionTakes: 10 * time.Millisecond,
	})
	t.Cleanup(func() {
		if err := acme.Close(); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	_, customers := createCustomers(ctx, t, acme, "Waiter")
	request, err := anypb.New(&identityv1.VerifyApplicantRequest{
		RequestId: "1", Customer: customers[0], DisplayName: "Ada", PassportNumber: "ZZ0000001",
		ConfirmWithin: durationpb.New(time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	sagas := treatyv1.NewSagaServiceClient(acme.Conn(company.Orchestrator))
	saga, err := sagas.CreateSaga(ctx, &treatyv1.CreateSagaRequest{Definition: verifyApplicant, Request: request})
	if err != nil {
		t.Fatal(err)
	}
	applicant := awaited(t, acme, saga.GetName())
	if err := acme.Process(company.Orchestrator).Kill(); err != nil {
		t.Fatal(err)
	}
	if err := acme.Process(company.Orchestrator).Start(); err != nil {
		t.Fatal(err)
	}
	if err := acme.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	event := fmt.Sprintf(`{"events": [{"id": "1", "source": "register", "data": {
		"@type": "type.googleapis.com/acme.identity.v1.ApplicantVerified",
		"applicant": %q, "registerReference": "by hand"}}]}`, applicant)
	out, err := exec.CommandContext(ctx, grpcurl, "-plaintext", "-d", event, acme.Process(company.Orchestrator).Address,
		"treaty.v1.EventService/PublishEvents").CombinedOutput()
	if err != nil {
		t.Fatalf("grpcurl (make bin/grpcurl builds it): %v\n%s", err, out)
	}
	t.Logf("the output of grpcurl: %s", out)
	ended, err := sagas.WaitSaga(ctx, &treatyv1.WaitSagaRequest{Name: saga.GetName()})
	if err != nil || ended.GetState() != treatyv1.SagaState_SAGA_STATE_SUCCEEDED {
		t.Fatalf("the saga ended as %v: %v", ended, err)
	}
}

// awaited waits until a saga waits for an event, and returns the event's subject.
func awaited(t *testing.T, acme *company.Company, name string) string {
	t.Helper()
	sagas := treatyv1.NewSagaServiceClient(acme.Conn(company.Orchestrator))
	stream, err := sagas.WatchSaga(t.Context(), &treatyv1.WatchSagaRequest{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	for {
		change, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		for _, wait := range change.GetSaga().GetWaits() {
			if len(wait.GetEvents()) > 0 {
				return wait.GetEvents()[0].GetSubject()
			}
		}
	}
}
