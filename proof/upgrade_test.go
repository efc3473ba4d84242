//go:build proof

package proof

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/services/demo/company"
)

// openQuick starts a company whose register and inspections are fast.
func openQuick(t *testing.T) *company.Company {
	t.Helper()
	acme, err := company.Open(t.Context(), company.Params{
		Dir: t.TempDir(), GoOnly: true, RegisterLatency: 10 * time.Millisecond, InspectionTakes: 10 * time.Millisecond,
	})
	t.Cleanup(func() {
		if err := acme.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			showLogs(t, acme)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return acme
}

// begin starts a saga of a definition and returns its name.
func begin(ctx context.Context, t *testing.T, acme *company.Company, definition string, message proto.Message) string {
	t.Helper()
	request, err := anypb.New(message)
	if err != nil {
		t.Fatal(err)
	}
	saga, err := treatyv1.NewSagaServiceClient(acme.Conn(company.Orchestrator)).CreateSaga(ctx,
		&treatyv1.CreateSagaRequest{
			Definition: definition, Request: request,
		})
	if err != nil {
		t.Fatal(err)
	}
	return saga.GetName()
}

// TestUpgradeGate verifies the store of a running orchestrator with two waiting sagas: with the same program, and with
// one that has other sagas. Verifying doesn't disturb the sagas.
func TestUpgradeGate(t *testing.T) {
	ctx := t.Context()
	acme := openQuick(t)
	_, customers := createCustomers(ctx, t, acme, "Sleeper")
	verification := begin(ctx, t, acme, verifyApplicant, &identityv1.VerifyApplicantRequest{
		RequestId: "verify", Customer: customers[0], DisplayName: "Ada", PassportNumber: "ZZ0000001",
		ConfirmWithin: durationpb.New(time.Hour),
	})
	review := begin(ctx, t, acme, reviewCustomer,
		&customerv1.ReviewCustomerRequest{RequestId: "review", Customer: customers[1]})
	applicant := awaited(t, acme, verification)

	said, err := acme.Verify(ctx)
	t.Logf("the output of the same build: %s", said)
	if err != nil || said != "2 of 2 open sagas can continue with this build" {
		t.Errorf("verify fails with the running build: %v", err)
	}

	other := filepath.Join(acme.Dir, "bin", "otherbuild")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", other,
		"./testdata/otherbuild").CombinedOutput(); err != nil {
		t.Fatalf("building the other build: %v\n%s", err, out)
	}
	out, err := exec.CommandContext(ctx, other, "verify", "--store", acme.Store()).CombinedOutput()
	t.Logf("the output of the other build:\n%s", out)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("the other build ends with %v, want exit code 1", err)
	}
	for saga, wants := range map[string][]string{
		verification: {verifyApplicant, "  1  ", "acme.identity.v1.IdentityService/RegisterApplicant",
			"acme.identity.v1.IdentityService/InspectPassport"},
		review: {reviewCustomer, "code for " + reviewCustomer, "none is registered"},
	} {
		if finding := lineWith(string(out), saga); !containsInOrder(finding, wants) {
			t.Errorf("its line on %s is %q, want %q in this order", saga, finding, wants)
		}
	}
	if last := "2 of 2 open sagas can't continue with this build"; !strings.Contains(string(out), last) {
		t.Errorf("the output of the other build lacks %q", last)
	}

	// The saga continues where it was.
	publish(ctx, t, acme, applicant)
	ended, err := treatyv1.NewSagaServiceClient(acme.Conn(company.Orchestrator)).WaitSaga(ctx,
		&treatyv1.WaitSagaRequest{Name: verification})
	if err != nil || ended.GetState() != treatyv1.SagaState_SAGA_STATE_SUCCEEDED {
		t.Errorf("the verification ended as %s: %v", ended.GetState(), err)
	}
}

// publish publishes the event that an applicant is verified.
func publish(ctx context.Context, t *testing.T, acme *company.Company, applicant string) {
	t.Helper()
	publishTo(ctx, t, acme.Conn(company.Orchestrator), applicant)
}

// publishTo is publish at one of several orchestrators.
func publishTo(ctx context.Context, t *testing.T, orchestrator *grpc.ClientConn, applicant string) {
	t.Helper()
	data, err := anypb.New(&identityv1.ApplicantVerified{Applicant: applicant, RegisterReference: "by hand"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := treatyv1.NewEventServiceClient(orchestrator).PublishEvents(ctx,
		&treatyv1.PublishEventsRequest{
			Events: []*treatyv1.PublishedEvent{{Id: applicant, Source: "proof", Data: data}},
		}); err != nil {
		t.Fatal(err)
	}
}

// lineWith returns the first line of text that contains a string.
func lineWith(text, what string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, what) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

func containsInOrder(text string, parts []string) bool {
	for _, part := range parts {
		_, rest, found := strings.Cut(text, part)
		if !found {
			return false
		}
		text = rest
	}
	return true
}
