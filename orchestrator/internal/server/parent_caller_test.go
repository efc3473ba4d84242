package server_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/caller"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/server"
)

// TestParentCallers makes the calls of a parent's orchestrator with different certificates.
func TestParentCallers(t *testing.T) {
	spiffe := func(path string) *x509.Certificate {
		return &x509.Certificate{URIs: []*url.URL{{Scheme: "spiffe", Host: "acme.example", Path: path}}}
	}
	authority := testkit.NewAuthority(t)
	declared := []string{"spiffe://acme.example/sagas", "mall.example"}
	for _, test := range []struct {
		name     string
		parents  []string
		caller   *x509.Certificate // nil: plaintext
		believed bool
	}{
		{"a declared orchestrator", declared, spiffe("/sagas"), true},
		{"another declared orchestrator", declared, &x509.Certificate{DNSNames: []string{"mall.example"}}, true},
		{"a client with a certificate", declared, spiffe("/clients"), false},
		{"a client without one", declared, nil, false},
		{"a client with a certificate, where nobody is declared", nil, spiffe("/clients"), true},
		{"a caller on this machine, where nobody is declared", nil, nil, true},
		{"a client, where everybody is declared", []string{caller.Any}, spiffe("/clients"), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			config := security{parents: test.parents}
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
			reached := 0
			end := handle{end: succeeded(t, &identityv1.ApplicantConfirmed{})}
			a.engine.start = func(context.Context, engine.StartParams) (server.Started, error) {
				reached++
				return end, nil
			}
			a.engine.compensateChild = func(context.Context, engine.StartParams) (bool, error) {
				reached++
				return true, nil
			}
			a.engine.closeChild = func(engine.StartParams) (engine.Closed, error) {
				reached++
				return engine.Closed{Verdict: engine.WasAccepted}, nil
			}
			participant := treatyv1.NewParticipantServiceClient(a.conn)
			command := func(method, direction string) func(context.Context, ...grpc.CallOption) error {
				return func(ctx context.Context, options ...grpc.CallOption) error {
					ctx = metadata.AppendToOutgoingContext(ctx, wire.CommandIDKey, parentStep,
						wire.DirectionKey, direction)
					return a.conn.Invoke(ctx, "/"+method, raw(""), new(identityv1.ApplicantConfirmed),
						append(options, grpc.ForceCodec(rawCodec{}))...)
				}
			}
			for name, call := range map[string]func(context.Context, ...grpc.CallOption) error{
				"start": command(verifyApplicant, wire.Action),
				"undo":  command(undoVerifyApplicant, wire.Compensation),
				"describe": func(ctx context.Context, options ...grpc.CallOption) error {
					_, err := participant.Describe(ctx, &treatyv1.DescribeRequest{}, options...)
					return err
				},
				"list": func(ctx context.Context, options ...grpc.CallOption) error {
					_, err := participant.ListCommands(ctx, &treatyv1.ListCommandsRequest{Since: timestamppb.Now()},
						options...)
					return err
				},
				"close": func(ctx context.Context, options ...grpc.CallOption) error {
					_, err := participant.CloseCommand(ctx,
						&treatyv1.CloseCommandRequest{CommandId: parentStep, Method: verifyApplicant}, options...)
					return err
				},
			} {
				var trailer metadata.MD
				err := call(askingAs(a.ctx(), "mall/0", 9), grpc.Trailer(&trailer))
				if test.believed {
					if err != nil {
						t.Errorf("%s: %v", name, err)
					}
					continue
				}
				if got := failureOf(t, err); got.code != codes.Unauthenticated ||
					got.reason != treatyv1.ErrorReason_ERROR_REASON_CALLER_NOT_BELIEVED {
					t.Errorf("%s: %v", name, err)
				}
				if mark := strings.Join(trailer.Get(wire.AnswerKey), " "); mark != wire.AnswerAttempt {
					t.Errorf("%s: marked as %q", name, mark)
				}
			}
			if want := map[bool]int{true: 3}[test.believed]; reached != want {
				t.Errorf("%d calls reached the engine, want %d", reached, want)
			}
			// A stranger's epoch shuts nobody out.
			heard, err := a.memory.Hear(t.Context(), journal.HeardScope{Scope: "mall/0"})
			if err != nil || test.believed != (heard.Epoch == 9) {
				t.Errorf("the highest epoch is %d, %v", heard.Epoch, err)
			}
			// An ordinary start isn't affected.
			if err := a.conn.Invoke(a.ctx(), "/"+verifyApplicant, raw(""), new(identityv1.ApplicantConfirmed),
				grpc.ForceCodec(rawCodec{})); status.Code(err) == codes.Unauthenticated {
				t.Errorf("an ordinary start: %v", err)
			}
		})
	}
}
