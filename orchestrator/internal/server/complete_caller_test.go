package server_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
)

// TestCompleteStepCallers completes steps of different participants, and sends heartbeats for them, with different
// client certificates.
func TestCompleteStepCallers(t *testing.T) {
	const (
		inspection = "sagas/a1/steps/2.1.1"
		broadcast  = "sagas/a1/steps/5"
		undeclared = "sagas/a1/steps/6"
	)
	identities := map[string][]string{
		"acme.identity.v1.IdentityService": {"spiffe://acme.example/identity", "clerks.acme.example"},
		"acme.card.v1.CardService":         {"spiffe://acme.example/card"}, // the name of the broadcast's participant
	}
	spiffe := func(path string) *x509.Certificate {
		return &x509.Certificate{URIs: []*url.URL{{Scheme: "spiffe", Host: "acme.example", Path: path}}}
	}
	named := func(name string) *x509.Certificate { return &x509.Certificate{DNSNames: []string{name}} }
	authority := testkit.NewAuthority(t)
	for _, test := range []struct {
		name      string
		caller    *x509.Certificate // nil: plaintext
		step      string
		direction treatyv1.StepDirection
		denied    bool
		says      string
	}{
		{"the participant", spiffe("/identity"), inspection, action, false, ""},
		{"the participant, of the compensation", spiffe("/identity"), inspection, compensation, false, ""},
		{"another declared caller", named("clerks.acme.example"), inspection, action, false, ""},
		{"another participant", spiffe("/card"), inspection, action, true, "is spiffe://acme.example/card:"},
		{"another participant, of the compensation", spiffe("/card"), inspection, compensation, true,
			"only the step's participant"},
		{"another DNS name", named("acme.example"), inspection, action, true,
			"--participant-identity acme.identity.v1.IdentityService=IDENTITY"},
		{"the SPIFFE id as a common name", &x509.Certificate{
			Subject: pkix.Name{CommonName: "spiffe://acme.example/identity"},
		}, inspection, action, true, ""},
		{"a caller without a certificate", nil, inspection, action, true, "is local:"},
		{"the participant of a broadcast's step", spiffe("/card"), broadcast, action, false, ""},
		{"another participant of the broadcast", spiffe("/identity"), broadcast, action, true,
			"which serves acme.card.v1.CardService,"},
		{"any caller, where no identity is declared", named("acme.example"), undeclared, action, false, ""},
		{"any caller without a certificate, where no identity is declared", nil, undeclared, action, false, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			config := security{identities: identities}
			if test.caller != nil {
				config.server = &tls.Config{
					Certificates: []tls.Certificate{authority.Issue(t, "").Certificate}, MinVersion: tls.VersionTLS12,
					ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authority.Pool,
				}
				config.client = &tls.Config{
					RootCAs: authority.Pool, MinVersion: tls.VersionTLS12,
					Certificates: []tls.Certificate{authority.IssueAs(t, test.caller).Certificate},
				}
			}
			a := newSecureTestServer(t, config)
			a.engine.get = func(id string) (*treatyv1.Saga, error) {
				saga := inspecting(id)
				saga.Steps = append(saga.Steps, &treatyv1.Step{
					Name: broadcast, Method: "acme.identity.v1.IdentityService/InspectPassport",
					Participant: "acme.card.v1.CardService",
				}, &treatyv1.Step{Name: undeclared, Method: "acme.customer.v1.CustomerService/ChangeAddress"})
				return saga, nil
			}
			completed, heard := 0, 0
			a.engine.complete = func(engine.Completion) error { completed++; return nil }
			a.engine.heartbeat = func(string, string, engine.Direction) error { heard++; return nil }

			refusal := &treatyv1.Failure{Code: int32(codes.FailedPrecondition)}
			_, complete := a.sagas.CompleteStep(a.ctx(), &treatyv1.CompleteStepRequest{
				Name: test.step, Direction: test.direction,
				How: &treatyv1.CompleteStepRequest_Refusal{Refusal: refusal},
			})
			_, heartbeat := a.sagas.HeartbeatStep(a.ctx(), &treatyv1.HeartbeatStepRequest{
				Name: test.step, Direction: test.direction,
			})
			want, calls := failure{}, 1
			if test.denied {
				want, calls = failure{
					code: codes.PermissionDenied, reason: treatyv1.ErrorReason_ERROR_REASON_CALLER_NOT_PARTICIPANT,
					saga: "sagas/a1",
				}, 0
			}
			for what, err := range map[string]error{"CompleteStep": complete, "HeartbeatStep": heartbeat} {
				if got := failureOf(t, err); got != want {
					t.Errorf("%s: %+v, want %+v (%v)", what, got, want, err)
				}
				if !strings.Contains(status.Convert(err).Message(), test.says) {
					t.Errorf("%s: %v doesn't say %q", what, err, test.says)
				}
			}
			if completed != calls || heard != calls {
				t.Errorf("the engine got %d completions and %d heartbeats, want %d", completed, heard, calls)
			}
		})
	}
}

// A heartbeat for a step that the saga doesn't have says so, also where identities are declared.
func TestHeartbeatStepOfNobody(t *testing.T) {
	a := newSecureTestServer(t, security{identities: map[string][]string{"acme.x.v1.X": {"x"}}})
	a.engine.get = func(id string) (*treatyv1.Saga, error) { return inspecting(id), nil }
	_, err := a.sagas.HeartbeatStep(a.ctx(), &treatyv1.HeartbeatStepRequest{
		Name: "sagas/a1/steps/9", Direction: action,
	})
	if got, want := failureOf(t, err), (failure{
		code: codes.NotFound, reason: treatyv1.ErrorReason_ERROR_REASON_STEP_NOT_FOUND, saga: "sagas/a1",
	}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
