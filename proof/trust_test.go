//go:build proof

package proof

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base32"
	"math"
	"net"
	"net/url"
	"strconv"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/services/demo/company"
)

const trustDomain = "spiffe://acme.example/"

// guarded is a company over mutual TLS. Each process has a certificate of the same authority, under its own SPIFFE id.
type guarded struct {
	*company.Company

	authority *testkit.Authority
	dir       string
}

// policyOfGuarded lets a person start sagas and look at them, and the identity service complete and publish what is its
// own.
const policyOfGuarded = `grants:
- principals: ` + trustDomain + `operator
  roles: [starter, operator]
  definitions: "*"
- principals: ` + trustDomain + company.Identity + `
  roles: participant
  methods: acme.identity.v1.IdentityService/*
  events: acme.identity.v1.*
  sources: register
`

// openGuarded opens a company over mutual TLS, with a policy.
func openGuarded(t *testing.T) *guarded {
	t.Helper()
	g := &guarded{authority: testkit.NewAuthority(t), dir: t.TempDir()}
	policy := testkit.WriteFile(t, g.dir, "policy.yaml", []byte(policyOfGuarded))
	ca := testkit.WriteFile(t, g.dir, "ca.pem", g.authority.PEM())
	files := make(map[string][2]string)
	for _, name := range append(company.Participants(), company.Orchestrator) {
		cert, key := g.certificate(t, name).Write(t, g.dir, name)
		files[name] = [2]string{cert, key}
	}
	var err error
	g.Company, err = company.Open(t.Context(), company.Params{
		Dir: t.TempDir(), GoOnly: true, RegisterLatency: 10 * time.Millisecond, InspectionTakes: time.Second,
		RegisterDecidesAfter: 3 * time.Second,
		Args: func(name string) []string {
			cert, key := files[name][0], files[name][1]
			args := []string{"--tls-cert", cert, "--tls-key", key, "--tls-client-ca", ca}
			switch name {
			case company.Orchestrator:
				return append(args, "--participant-tls-ca", ca, "--participant-tls-cert", cert,
					"--participant-tls-key", key, "--policy", policy,
					"--participant-identity", "acme.identity.v1.IdentityService="+trustDomain+company.Identity)
			case company.Identity:
				args = append(args, "--orchestrator-tls-ca", ca, "--orchestrator-tls-cert", cert,
					"--orchestrator-tls-key", key)
			}
			return append(args, "--orchestrator-identity", trustDomain+company.Orchestrator)
		},
		DialOptions: []grpc.DialOption{grpc.WithTransportCredentials(g.credentials(t, "operator"))},
	})
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			showLogs(t, g.Company)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// certificate issues a certificate with a SPIFFE id, for this machine.
func (g *guarded) certificate(t *testing.T, name string) testkit.Certificate {
	t.Helper()
	id, err := url.Parse(trustDomain + name)
	if err != nil {
		t.Fatal(err)
	}
	return g.authority.IssueAs(t, &x509.Certificate{
		URIs: []*url.URL{id}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	})
}

// credentials returns the credentials of a client with a certificate.
func (g *guarded) credentials(t *testing.T, name string) credentials.TransportCredentials {
	t.Helper()
	return credentials.NewTLS(&tls.Config{
		RootCAs: g.authority.Pool, Certificates: []tls.Certificate{g.certificate(t, name).Certificate},
		MinVersion: tls.VersionTLS12,
	})
}

// as returns a connection to a process under a name.
func (g *guarded) as(t *testing.T, name, process string) *grpc.ClientConn {
	t.Helper()
	return testkit.Dial(t, g.Process(process).Address, grpc.WithTransportCredentials(g.credentials(t, name)))
}

// forgery is a command that another service sends to a participant, in the orchestrator's name.
type forgery struct {
	name, method string
	request      proto.Message
	step         string
	direction    treatyv1.StepDirection
	epoch        uint64
}

// send sends the command as a call of its own, and on a stream. It returns what became of both.
func (f *forgery) send(
	ctx context.Context, t *testing.T, connection *grpc.ClientConn, saga string,
) (unary, streamed error) {
	t.Helper()
	direction := wire.Action
	if f.direction == treatyv1.StepDirection_STEP_DIRECTION_COMPENSATION {
		direction = wire.Compensation
	}
	request, err := proto.Marshal(f.request)
	if err != nil {
		t.Fatal(err)
	}
	digest := wire.RequestDigest(f.method, request)
	call := metadata.AppendToOutgoingContext(ctx,
		wire.SagaKey, saga, wire.CommandIDKey, wire.JoinStep(saga, f.step), wire.DirectionKey, direction,
		wire.AttemptKey, "1", wire.EpochKey, strconv.FormatUint(f.epoch, 10), wire.ScopeKey, "/0",
		wire.StartKey, strconv.FormatInt(time.Now().UnixMicro(), 10), wire.RequestDigestKey, digest,
	)
	unary = connection.Invoke(call, "/"+f.method, f.request, new(treatyv1.DescribeResponse))
	greeting := testkit.Greeting()
	greeting.Epoch, greeting.Scope = f.epoch, "/0"
	commands, err := testkit.OpenCommands(ctx, connection, greeting)
	if err != nil {
		return unary, err
	}
	answer, err := commands.Do(ctx, &treatyv1.StreamedCommand{
		Method: f.method, CommandId: wire.JoinStep(saga, f.step), Direction: f.direction, Attempt: 1,
		SagaStartMicros: time.Now().UnixMicro(), RequestDigest: digest, Request: request,
	})
	if err != nil {
		return unary, err
	}
	st, _ := testkit.StatusOf(answer)
	return unary, st.Err()
}

// TestForgedCommands sends commands in the orchestrator's name to the participants of a company over mutual TLS, with
// another service's certificate of the same authority. None is executed, and none changes what becomes of a saga.
func TestForgedCommands(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	g := openGuarded(t)
	_, customers := createCustomers(ctx, t, g.Company, "Mover")
	address := &customerv1.Address{Lines: []string{"Second Street 1"}, City: "Delft", Country: "NL"}
	forged := &customerv1.ChangeAddressRequest{
		Customer: customers[0],
		Address:  &customerv1.Address{Lines: []string{"Thief Street 1"}, City: "X", Country: "NL"},
	}
	undo := &customerv1.RestoreAddressRequest{
		Action: &customerv1.ChangeAddressRequest{Customer: customers[0], Address: address},
		Reply:  &customerv1.AddressChanged{Customer: customers[0], AddressRevision: 2},
	}
	const change, restore = "acme.customer.v1.CustomerService/ChangeAddress",
		"acme.customer.v1.CustomerService/RestoreAddress"
	now := uint64(time.Now().UnixMilli()) << 20
	stranger := g.as(t, company.Card, company.Customer)
	send := func(saga string, forgeries ...forgery) {
		t.Helper()
		for _, f := range forgeries {
			unary, streamed := f.send(ctx, t, stranger, saga)
			for way, err := range map[string]error{"as a call": unary, "on a stream": streamed} {
				if status.Code(err) != codes.Unauthenticated {
					t.Errorf("%s, %s: %v", f.name, way, err)
				}
			}
		}
	}
	sagas := customerv1.NewCustomerSagasClient(g.Conn(company.Orchestrator))
	move := &customerv1.ChangeAddressSagaRequest{RequestId: "guessed", Customer: customers[0], Address: address}
	saga := wire.SagaName(guess(customerv1.CustomerSagas_ChangeAddress_FullMethodName[1:], move.GetRequestId()))
	const action, compensation = treatyv1.StepDirection_STEP_DIRECTION_ACTION,
		treatyv1.StepDirection_STEP_DIRECTION_COMPENSATION
	send(saga,
		forgery{"another body under the first command's id", change, forged, "1", action, now},
		forgery{"an undo before the action", restore, undo, "1", compensation, now},
		forgery{"the highest epoch", change, forged, "1", action, math.MaxInt64},
		forgery{"the highest epoch, with a step that doesn't exist", change, forged, "99", action, math.MaxInt64},
	)
	agreed, err := sagas.ChangeAddress(ctx, move)
	if err != nil {
		t.Fatalf("the saga failed after the forged commands: %v", err)
	}
	send(saga,
		forgery{"an undo after the saga has succeeded", restore, undo, "1", compensation, now},
		forgery{"an undo under the highest epoch", restore, undo, "1", compensation, math.MaxInt64},
	)
	got, err := customerv1.NewCustomerServiceClient(g.Conn(company.Customer)).GetCustomer(ctx,
		&customerv1.GetCustomerRequest{Name: customers[0]})
	if err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(got.GetAddress(), address) || got.GetAddressRevision() != agreed.GetAddressRevision() {
		t.Errorf("the customer has the address %v, and the saga agreed on %v", got, agreed)
	}
	// A saga of the same customer still runs, and can still be undone.
	again := proto.CloneOf(move)
	again.RequestId = "next"
	if _, err := sagas.ChangeAddress(ctx, again); err != nil {
		t.Errorf("the next saga failed: %v", err)
	}
	boxed := proto.CloneOf(move)
	boxed.RequestId, boxed.Address.Lines = "undone", []string{"P.O. box 1"}
	_, err = sagas.ChangeAddress(ctx, boxed)
	if status.Code(err) == codes.OK || status.Code(err) == codes.Unavailable {
		t.Errorf("a saga that is undone ended with %v", err)
	}
	_, err = treatyv1.NewSagaServiceClient(g.Conn(company.Orchestrator)).GetSaga(ctx,
		&treatyv1.GetSagaRequest{Name: saga})
	if err != nil {
		t.Errorf("the id of the saga wasn't the one that was guessed: %v", err)
	}
}

// TestStrangersCallTheAPI does with another service's certificate what only others may do at the orchestrator of a
// company: it completes commands, publishes and acknowledges events, undoes a child, and starts, reads and cancels
// sagas. Everything is refused, and the sagas end as they would have.
func TestStrangersCallTheAPI(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	g := openGuarded(t)
	_, customers := createCustomers(ctx, t, g.Company, "Applicant")
	request := &identityv1.VerifyApplicantRequest{
		RequestId: "1", Customer: customers[0], DisplayName: "Ada", PassportNumber: "P00000001",
		ConfirmWithin: durationpb.New(time.Hour),
	}
	packed, err := anypb.New(request)
	if err != nil {
		t.Fatal(err)
	}
	sagas := treatyv1.NewSagaServiceClient(g.Conn(company.Orchestrator))
	stranger := g.as(t, company.Card, company.Orchestrator)
	theirs, events := treatyv1.NewSagaServiceClient(stranger), treatyv1.NewEventServiceClient(stranger)
	refused := func(what string, err error, want codes.Code) {
		t.Helper()
		if status.Code(err) != want {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	_, err = theirs.CreateSaga(ctx, &treatyv1.CreateSagaRequest{Definition: verifyApplicant, Request: packed})
	refused("using up a request id", err, codes.PermissionDenied)

	saga, err := sagas.CreateSaga(ctx, &treatyv1.CreateSagaRequest{Definition: verifyApplicant, Request: packed})
	if err != nil {
		t.Fatal(err)
	}
	inspected, err := anypb.New(&identityv1.PassportInspected{Inspection: "inspections/forged"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = theirs.CompleteStep(ctx, &treatyv1.CompleteStepRequest{
		Name: saga.GetName() + "/steps/2", Direction: treatyv1.StepDirection_STEP_DIRECTION_ACTION,
		How: &treatyv1.CompleteStepRequest_Reply{Reply: inspected},
	})
	refused("completing the clerk's command", err, codes.PermissionDenied)
	_, err = theirs.GetSaga(ctx, &treatyv1.GetSagaRequest{Name: saga.GetName()})
	refused("reading a saga", err, codes.PermissionDenied)
	_, err = theirs.CancelSaga(ctx, &treatyv1.CancelSagaRequest{Name: saga.GetName()})
	refused("cancelling a saga", err, codes.PermissionDenied)
	verified, err := anypb.New(&identityv1.ApplicantVerified{
		Applicant: awaited(t, g.Company, saga.GetName()), RegisterReference: "forged",
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = events.PublishEvents(ctx, &treatyv1.PublishEventsRequest{Events: []*treatyv1.PublishedEvent{{
		Id: "forged", Source: "register", Data: verified,
	}}})
	refused("publishing the register's decision", err, codes.PermissionDenied)
	_, err = events.AcknowledgeEvents(ctx, &treatyv1.AcknowledgeEventsRequest{Consumer: "warehouse", Position: 1})
	refused("acknowledging another's events", err, codes.PermissionDenied)

	ended, err := sagas.WaitSaga(ctx, &treatyv1.WaitSagaRequest{Name: saga.GetName()})
	if err != nil || ended.GetState() != treatyv1.SagaState_SAGA_STATE_SUCCEEDED {
		t.Fatalf("the saga ended as %v: %v", ended, err)
	}
	undo := metadata.AppendToOutgoingContext(ctx, wire.SagaKey, "sagas/parent",
		wire.CommandIDKey, "sagas/parent/steps/1", wire.DirectionKey, wire.Compensation)
	_, err = identityv1.NewIdentitySagasClient(stranger).UndoVerifyApplicant(undo,
		&identityv1.UndoVerifyApplicantRequest{Action: request})
	refused("undoing a child", err, codes.Unauthenticated)
	after, err := sagas.GetSaga(ctx, &treatyv1.GetSagaRequest{Name: saga.GetName()})
	if err != nil || after.GetState() != treatyv1.SagaState_SAGA_STATE_SUCCEEDED {
		t.Errorf("afterwards, the saga is %v: %v", after, err)
	}
}

// guess returns the id of a saga, which follows from its request id, so that an attacker knows it beforehand.
func guess(definition, requestID string) string {
	sum := sha256.Sum256([]byte(definition + "\x00" + requestID))
	return "r" + base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding).
		EncodeToString(sum[:20])
}
