package orchestrator

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bufbuild/protocompile"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoregistry"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/dispatch"
)

// broadcastCatalog has acme.privacy.v1.UserDataService, all of whose commands are broadcasts,
// acme.family.v1.PrivacyService, which has a broadcast and other commands, and acme.customer.v1.CustomerService.
func broadcastCatalog(t *testing.T) *contract.Catalog {
	t.Helper()
	compiler := protocompile.Compiler{Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{
		ImportPaths: []string{filepath.Join("contract", "testdata", "valid"), filepath.Join("..", "proto")},
	})}
	compiled, err := compiler.Compile(t.Context(), "language.proto")
	if err != nil {
		t.Fatal(err)
	}
	files := new(protoregistry.Files)
	for _, err := range []error{
		files.RegisterFile(compiled[0]),
		files.RegisterFile(privacyv1.File_acme_privacy_v1_user_data_service_proto),
		files.RegisterFile(customerv1.File_acme_customer_v1_customer_service_proto),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	catalog, err := contract.Load(files)
	if err != nil {
		t.Fatal(err)
	}
	return catalog
}

// The configuration alone says which participants take part in a broadcast.
func TestParticipantsOfBroadcasts(t *testing.T) {
	const (
		customer, userData = "acme.customer.v1.CustomerService", "acme.privacy.v1.UserDataService"
		mixed, unknown     = "acme.family.v1.PrivacyService", "acme.loyalty.v1.LoyaltyService"
		one, two           = "127.0.0.1:1", "127.0.0.1:2"
	)
	both := []participant{{customer, one}, {unknown, two}}
	for name, test := range map[string]struct {
		participants []participant
		broadcasts   []broadcast
		want         map[string][]string // the broadcasts of each participant, by its target
		fails        string
	}{
		"nobody": {participants: []participant{{customer, one}}, want: map[string][]string{one: nil}},
		"the participant of the service": {
			participants: []participant{{customer, one}, {userData, two}, {mixed, two}},
			want:         map[string][]string{one: nil, two: {userData, mixed}},
		},
		"those that are named": {
			participants: append(both, participant{userData, two}),
			broadcasts: []broadcast{
				{userData, customer}, {userData, customer}, {userData, unknown}, {mixed, unknown},
			},
			want: map[string][]string{one: {userData}, two: {userData, mixed}},
		},
		"an unknown service that takes part in nothing": {
			participants: both, broadcasts: []broadcast{{userData, customer}},
			fails: "say so with --broadcast " + mixed + "=" + unknown,
		},
		"one that isn't configured": {
			participants: both[:1], broadcasts: []broadcast{{userData, unknown}},
			fails: "such as --participant " + unknown + "=HOST:PORT",
		},
		"a service without broadcasts": {
			participants: both[:1], broadcasts: []broadcast{{customer, customer}},
			fails: "there are " + mixed + ", " + userData,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &settings{participants: test.participants, broadcasts: test.broadcasts}
			participants, err := s.connections(broadcastCatalog(t))
			if test.fails != "" {
				if err == nil || !strings.Contains(err.Error(), test.fails) || strings.Contains(err.Error(), "\n") {
					t.Errorf("error %v, want %q alone", err, test.fails)
				}
				return
			}
			got := make(map[string][]string)
			for _, p := range participants {
				got[p.Target] = p.Broadcasts
			}
			if diff := cmp.Diff(test.want, got); err != nil || diff != "" {
				t.Errorf("error %v, participants (-want +got):\n%s", err, diff)
			}
		})
	}
}

// Commands are sent on a stream, unless the configuration or an interceptor speaks against it.
func TestHowCommandsAreSent(t *testing.T) {
	const customer, userData, mixed = "acme.customer.v1.CustomerService", "acme.privacy.v1.UserDataService",
		"acme.family.v1.PrivacyService"
	dial := WithParticipantDialOptions(customer, grpc.WithUserAgent("acme"))
	for _, test := range []struct {
		name    string
		options []Option
		want    []bool // whether the customer service and the one at the other target get unary calls
		err     string
	}{
		{"by default", nil, []bool{false, false}, ""},
		{"unary", []Option{WithUnary(mixed)}, []bool{false, true}, ""},
		{"stream", []Option{WithStream(customer)}, []bool{false, false}, ""},
		{"what is said last", []Option{WithUnary(customer), WithStream(customer)}, []bool{false, false}, ""},
		{"options in which an interceptor may hide", []Option{dial}, []bool{true, false}, ""},
		{"options in which none hides", []Option{dial, WithStream(customer)}, []bool{false, false}, ""},
		{"in two ways", []Option{WithUnary(userData), WithStream(mixed)}, nil, "in two ways: choose one"},
		{"of nobody", []Option{WithUnary("acme.x.v1.X")}, nil, "no participant is configured for it"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &settings{participants: []participant{
				{customer, "127.0.0.1:1"}, {userData, "127.0.0.1:2"}, {mixed, "127.0.0.1:2"},
			}}
			for _, option := range test.options {
				option(s)
			}
			participants, err := s.connections(broadcastCatalog(t))
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("error %v, want %q", err, test.err)
				}
				return
			}
			var got []bool
			for _, p := range participants {
				got = append(got, p.Unary)
			}
			if err != nil || !slices.Equal(got, test.want) {
				t.Errorf("unary: %v, %v; want %v", got, err, test.want)
			}
		})
	}
}

// Each participant may have TLS of its own.
func TestTLSOfParticipants(t *testing.T) {
	const customer, userData, mixed = "acme.customer.v1.CustomerService", "acme.privacy.v1.UserDataService",
		"acme.family.v1.PrivacyService"
	dir := t.TempDir()
	authority := testkit.WriteFile(t, dir, "ca.pem", testkit.NewAuthority(t).PEM())
	other := testkit.WriteFile(t, dir, "other.pem", testkit.NewAuthority(t).PEM())
	for _, test := range []struct {
		name    string
		options []Option
		want    []string // how the customer service and the one at the other target are called
		err     string
	}{
		{"none", nil, []string{"plaintext on loopback", "plaintext on loopback"}, ""},
		{"insecure", []Option{WithInsecure()}, []string{"plaintext", "plaintext"}, ""},
		{"one of them", []Option{WithParticipantTLSFor(customer, ParticipantTLS{CAFile: authority})},
			[]string{"TLS", "plaintext on loopback"}, ""},
		{"one of them, and insecure", []Option{WithInsecure(),
			WithParticipantTLSFor(customer, ParticipantTLS{CAFile: authority})}, []string{"TLS", "plaintext"}, ""},
		{"all, one with its own", []Option{WithParticipantTLS(ParticipantTLS{CAFile: authority}),
			WithParticipantTLSFor(mixed, ParticipantTLS{CAFile: other})}, []string{"TLS", "TLS"}, ""},
		{"by both services", []Option{WithParticipantTLSFor(userData, ParticipantTLS{CAFile: other}),
			WithParticipantTLSFor(mixed, ParticipantTLS{CAFile: other})}, []string{"plaintext on loopback", "TLS"}, ""},
		{"two for one", []Option{WithParticipantTLSFor(userData, ParticipantTLS{CAFile: authority}),
			WithParticipantTLSFor(mixed, ParticipantTLS{CAFile: other})}, nil,
			"the participant 127.0.0.1:2 has two configurations of TLS: keep one"},
		{"for nobody", []Option{WithParticipantTLSFor("acme.v1.X", ParticipantTLS{CAFile: authority})}, nil,
			"TLS is configured for acme.v1.X, but no participant is configured for it"},
		{"no file", []Option{WithParticipantTLSFor(customer, ParticipantTLS{CAFile: "nope.pem"})}, nil,
			"setting up TLS to the participant 127.0.0.1:1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var s settings
			for _, option := range append(test.options, WithParticipant(customer, "127.0.0.1:1"),
				WithParticipant(userData, "127.0.0.1:2"), WithParticipant(mixed, "127.0.0.1:2")) {
				option(&s)
			}
			participants, err := s.connections(broadcastCatalog(t))
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("got %v, want %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range participants {
				switch {
				case p.TLS != nil:
					got = append(got, "TLS")
				case p.Plaintext == dispatch.PlaintextAnywhere:
					got = append(got, "plaintext")
				default:
					got = append(got, "plaintext on loopback")
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("the participants are called otherwise (-want +got):\n%s", diff)
			}
		})
	}
}
