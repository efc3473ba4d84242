package orchestrator_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

const (
	identityService  = "acme.identity.v1.IdentityService"
	identitySPIFFEID = "spiffe://acme.example/identity"
)

// clerks is an identity service that accepts inspections and never completes one on its own.
type clerks struct {
	identityv1.UnimplementedIdentityServiceServer
}

func (clerks) InspectPassport(
	ctx context.Context, _ *identityv1.InspectPassportRequest,
) (*identityv1.PassportInspected, error) {
	return &identityv1.PassportInspected{}, grpc.SetTrailer(ctx, metadata.Pairs(wire.PendingKey, "3600"))
}

// registerInspection registers a saga that only waits for an inspection.
func registerInspection(r saga.Registrar) {
	saga.Register(r, customerv1.CustomerSagas_ChangeAddress_FullMethodName,
		func(ctx saga.Context, _ *customerv1.ChangeAddressSagaRequest) (*customerv1.AddressAgreed, error) {
			err := saga.Call(ctx, identityv1.IdentityService_InspectPassport_FullMethodName,
				&identityv1.InspectPassportRequest{}, new(identityv1.PassportInspected))
			return &customerv1.AddressAgreed{}, err
		})
}

// secured returns a system whose API uses mutual TLS, and a function that connects to it with a certificate.
func secured(
	t *testing.T, options ...orchestrator.Option,
) (w *system, connect func(*x509.Certificate) treatyv1.SagaServiceClient) {
	t.Helper()
	w, dial := securedAt(t, "", registerInspection, options...)
	return w, func(names *x509.Certificate) treatyv1.SagaServiceClient {
		return treatyv1.NewSagaServiceClient(dial(names))
	}
}

// securedAt returns a system whose API uses mutual TLS at an address, and a function that connects to it with a
// certificate.
func securedAt(
	t *testing.T, address string, register func(saga.Registrar), options ...orchestrator.Option,
) (w *system, dial func(*x509.Certificate) *grpc.ClientConn) {
	t.Helper()
	authority := testkit.NewAuthority(t)
	dir := t.TempDir()
	cert, key := authority.Issue(t, "").Write(t, dir, "api")
	server := grpc.NewServer()
	identityv1.RegisterIdentityServiceServer(server, clerks{})
	w = unopened(t, newParticipants(t))
	w.register, w.address = register, address
	w.options = append([]orchestrator.Option{
		orchestrator.WithTLS(cert, key),
		orchestrator.WithClientCA(testkit.WriteFile(t, dir, "ca.pem", authority.PEM())),
		orchestrator.WithParticipant(identityService, testkit.Serve(t, server)),
	}, options...)
	w.open()
	_, port, err := net.SplitHostPort(w.ready.Address)
	if err != nil {
		t.Fatal(err)
	}
	return w, func(names *x509.Certificate) *grpc.ClientConn {
		return testkit.Dial(t, net.JoinHostPort("127.0.0.1", port),
			grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
				RootCAs: authority.Pool, MinVersion: tls.VersionTLS12,
				Certificates: []tls.Certificate{authority.IssueAs(t, names).Certificate},
			})))
	}
}

// TestParticipantIdentities completes an accepted command with different client certificates.
func TestParticipantIdentities(t *testing.T) {
	spiffe := func(path string) *x509.Certificate {
		return &x509.Certificate{URIs: []*url.URL{{Scheme: "spiffe", Host: "acme.example", Path: path}}}
	}
	person := func(name string) *x509.Certificate { return &x509.Certificate{Subject: pkix.Name{CommonName: name}} }
	declared := []orchestrator.Option{
		orchestrator.WithParticipantIdentity(identityService, identitySPIFFEID),
		orchestrator.WithParticipantIdentity(identityService, "ada"),
		orchestrator.WithParticipantIdentity(customerService, "spiffe://acme.example/customer"),
	}
	for _, test := range []struct {
		name    string
		options []orchestrator.Option
		caller  *x509.Certificate
		allowed bool
	}{
		{"the participant", declared, spiffe("/identity"), true},
		{"a declared person", declared, person("ada"), true},
		{"another person", declared, person("mallory"), false},
		{"another participant", declared, spiffe("/customer"), false},
		{"another person, where no identity is declared", declared[2:], person("mallory"), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			w, connect := secured(t, test.options...)
			client := connect(test.caller)
			request, err := anypb.New(move("one", "Main Street 1"))
			if err != nil {
				t.Fatal(err)
			}
			created, err := client.CreateSaga(w.ctx(), &treatyv1.CreateSagaRequest{
				Definition: changeAddress, Request: request,
			})
			if err != nil {
				t.Fatal(err)
			}
			until(w.ctx(), t, client, created.GetName(), func(got *treatyv1.Saga) bool {
				return len(got.GetSteps()) == 1 && got.GetSteps()[0].GetAttempts().GetAccepted()
			})
			step := created.GetName() + "/steps/1"
			direction := treatyv1.StepDirection_STEP_DIRECTION_ACTION
			reply, err := anypb.New(&identityv1.PassportInspected{Inspection: "inspections/1"})
			if err != nil {
				t.Fatal(err)
			}
			_, heartbeat := client.HeartbeatStep(w.ctx(), &treatyv1.HeartbeatStepRequest{
				Name: step, Direction: direction,
			})
			_, complete := client.CompleteStep(w.ctx(), &treatyv1.CompleteStepRequest{
				Name: step, Direction: direction, How: &treatyv1.CompleteStepRequest_Reply{Reply: reply},
			})
			if test.allowed {
				if heartbeat != nil || complete != nil {
					t.Errorf("heartbeat: %v, completion: %v", heartbeat, complete)
				}
				until(w.ctx(), t, client, created.GetName(), func(got *treatyv1.Saga) bool {
					return got.GetState() == treatyv1.SagaState_SAGA_STATE_SUCCEEDED
				})
				return
			}
			for _, err := range []error{heartbeat, complete} {
				if reason, name := info(err); status.Code(err) != codes.PermissionDenied || name != created.GetName() ||
					reason != treatyv1.ErrorReason_ERROR_REASON_CALLER_NOT_PARTICIPANT {
					t.Errorf("got %v", err)
				}
			}
			got, err := client.GetSaga(w.ctx(), &treatyv1.GetSagaRequest{Name: created.GetName()})
			if err != nil || got.GetState() != treatyv1.SagaState_SAGA_STATE_RUNNING ||
				!got.GetSteps()[0].GetAttempts().GetAccepted() {
				t.Errorf("the saga is %v, %v", got, err)
			}
		})
	}
}

// until waits until a saga is as wanted.
func until(
	ctx context.Context, t *testing.T, client treatyv1.SagaServiceClient, name string, wanted func(*treatyv1.Saga) bool,
) {
	t.Helper()
	for {
		got, err := client.GetSaga(ctx, &treatyv1.GetSagaRequest{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		if wanted(got) {
			return
		}
	}
}

// TestWarnsAboutParticipantsWithoutIdentity starts orchestrators and reads their logs.
func TestWarnsAboutParticipantsWithoutIdentity(t *testing.T) {
	warning := "declare its identity with --participant-identity"
	for _, test := range []struct {
		name    string
		open    func(t *testing.T, options ...orchestrator.Option) *system
		options []orchestrator.Option
		want    int
	}{
		{"no identity", overTLS, nil, 1},
		{"an identity", overTLS,
			[]orchestrator.Option{orchestrator.WithParticipantIdentity(identityService, identitySPIFFEID)}, 0},
		{"an identity of another participant", overTLS,
			[]orchestrator.Option{orchestrator.WithParticipantIdentity(customerService, "customer")}, 1},
		{"no certificates", func(t *testing.T, options ...orchestrator.Option) *system {
			w := unopened(t, newParticipants(t))
			w.options = append(options, orchestrator.WithParticipant(identityService, "127.0.0.1:1"))
			w.open()
			return w
		}, nil, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			var log bytes.Buffer
			w := test.open(t, append(test.options,
				orchestrator.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))...)
			w.stop()
			var found []string
			for line := range strings.Lines(log.String()) {
				if strings.Contains(line, warning) {
					found = append(found, line)
				}
			}
			if len(found) != test.want || test.want == 1 && !strings.Contains(found[0], "service="+identityService) {
				t.Errorf("the warnings are %q, want %d", found, test.want)
			}
		})
	}
}

func overTLS(t *testing.T, options ...orchestrator.Option) *system {
	w, _ := secured(t, options...)
	return w
}

func TestWrongIdentities(t *testing.T) {
	authority := testkit.NewAuthority(t)
	dir := t.TempDir()
	cert, key := authority.Issue(t, "").Write(t, dir, "api")
	ca := testkit.WriteFile(t, dir, "ca.pem", authority.PEM())
	mutual := []orchestrator.Option{orchestrator.WithTLS(cert, key), orchestrator.WithClientCA(ca)}
	for _, test := range []struct {
		name, service, identity string
		options                 []orchestrator.Option
		want                    string
	}{
		{"fine", cardService, "card", mutual, ""},
		{"no client certificates", cardService, "card", mutual[:1], "need client certificates"},
		{"no such participant", customerService, "customer", mutual, "no participant is configured for it"},
		{"empty", cardService, "", mutual, "is empty"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := orchestrator.New(append([]orchestrator.Option{
				orchestrator.WithParticipant(cardService, "127.0.0.1:1"),
				orchestrator.WithParticipantIdentity(test.service, test.identity),
			}, test.options...)...)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}
