package orchestrator

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/bufbuild/protocompile"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/reflect/protoregistry"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
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
