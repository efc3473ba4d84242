package ts_test

import (
	"bufio"
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/participant/participanttest"
)

// startIdentity starts the participant in testdata, and returns a connection to it and what kills it.
func startIdentity(t *testing.T, node, database string) (*grpc.ClientConn, func()) {
	t.Helper()
	command := exec.Command(node, filepath.Join("testdata", "identity.mjs"), database, "50")
	command.Stderr = t.Output()
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	killed := false
	kill := func() {
		if !killed {
			killed = true
			_ = command.Process.Kill()
			_ = command.Wait()
		}
	}
	t.Cleanup(kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	address, found := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if err != nil || !found {
		t.Fatalf("the participant says %q, %v", line, err)
	}
	return participanttest.Dial(t, address), kill
}

// TestConform runs the conformance kit for a participant with compensations and with a command that takes long, which
// the services in TypeScript don't have. It is killed and started again, also while a command is pending.
func TestConform(t *testing.T) {
	node := testkit.BuildNode(t, ".")
	database := filepath.Join(t.TempDir(), "identity.db")
	connection, kill := startIdentity(t, node, database)
	client := identityv1.NewIdentityServiceClient(connection)
	participanttest.Conform(t, participanttest.Conformance{
		Connection: connection,
		Commands: []participanttest.CommandCase{
			{
				Method: identityv1.IdentityService_RegisterApplicant_FullMethodName,
				Request: func(unique string) proto.Message {
					return &identityv1.RegisterApplicantRequest{Customer: "customers/" + unique}
				},
				Refused: func(unique string) proto.Message {
					return &identityv1.RegisterApplicantRequest{Customer: "customers/" + unique, PassportNumber: "none"}
				},
				Effects: func(ctx context.Context) (int, error) {
					list, err := client.ListApplicants(ctx, &identityv1.ListApplicantsRequest{})
					return len(list.GetApplicants()), err
				},
			},
			{
				Method: identityv1.IdentityService_InspectPassport_FullMethodName,
				Request: func(unique string) proto.Message {
					return &identityv1.InspectPassportRequest{Applicant: "applicants/" + unique}
				},
				Refused: func(string) proto.Message { return &identityv1.InspectPassportRequest{} },
				Effects: func(ctx context.Context) (int, error) {
					list, err := client.ListInspections(ctx, &identityv1.ListInspectionsRequest{})
					return len(list.GetInspections()), err
				},
			},
		},
		Restart: func() *grpc.ClientConn {
			kill()
			connection, kill = startIdentity(t, node, database)
			client = identityv1.NewIdentityServiceClient(connection)
			return connection
		},
	})
}
