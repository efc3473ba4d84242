package cli

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/reflection"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/participant/participanttest"
)

const (
	cardService   = "acme.card.v1.CardService"
	creditService = "acme.credit.v1.CreditService"
)

// cards serves the contract of the card service. It implements none of its methods.
func cards(r grpc.ServiceRegistrar) {
	cardv1.RegisterCardServiceServer(r, cardv1.UnimplementedCardServiceServer{})
}

// compiled returns a file and its imports, as buf build writes them.
func compiled(t *testing.T, file protoreflect.FileDescriptor) []byte {
	t.Helper()
	set := new(descriptorpb.FileDescriptorSet)
	seen := make(map[string]bool)
	var add func(file protoreflect.FileDescriptor)
	add = func(file protoreflect.FileDescriptor) {
		if seen[file.Path()] {
			return
		}
		seen[file.Path()] = true
		for i := range file.Imports().Len() {
			add(file.Imports().Get(i).FileDescriptor)
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(file))
	}
	add(file)
	raw, err := proto.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestConformAgainst compares a running participant with what sagas expect. The exit codes tell CI servers whether it
// meets that, doesn't, or couldn't be compared.
func TestConformAgainst(t *testing.T) {
	text, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name, text string) string { return testkit.WriteFile(t, dir, name, []byte(text)) }
	changed := file("changed.yaml", strings.Replace(string(text), "2: string last_four", "2: int64 last_four", 1))
	cut := file("cut.yaml", string(text[:len(text)/2]))
	newer := file("newer.yaml", strings.Replace(string(text), "version: 1", "version: 7", 1))
	descriptors := testkit.WriteFile(t, dir, "card.binpb", compiled(t, cardv1.File_acme_card_v1_card_service_proto))

	reflecting := strings.TrimPrefix(participanttest.Serve(t, cards).Target(), "passthrough:///")
	bare := grpc.NewServer()
	cards(bare)
	plain := testkit.Serve(t, bare)
	nobody := testkit.UnusedAddress(t)

	const (
		meets    = "The participant meets what sagas expect of " + cardService + ".\n"
		others   = "Not served here, so not checked: acme.credit.v1.CreditService, "
		lastFour = cardService + "/IssueCard: reply acme.card.v1.CardIssued: " +
			"field 2 last_four: was int64, is string\n" +
			"  needed by acme.card.v1.CardSagas/IssueCard, acme.card.v1.FamilySagas/IssueFamilyCards\n"
	)
	for _, test := range []struct {
		name string
		args []string
		code int
		want string // in the output
	}{
		{"meets", []string{exampleFile, "--address", reflecting}, 0, meets + others},
		{"meets for a service", []string{exampleFile, "--address", reflecting, "--service", cardService}, 0, meets},
		{"descriptors", []string{exampleFile, "--address", plain, "--descriptors", descriptors}, 0, meets},
		{"JSON", []string{exampleFile, "--address", reflecting, "--service", cardService, "--json"}, 0,
			`{"checked":["` + cardService + `"]}`},

		{"doesn't meet", []string{changed, "--address", reflecting}, 1, lastFour + "1 problem for " + cardService},
		{"doesn't meet, by descriptors", []string{changed, "--address", plain, "--descriptors", descriptors}, 1,
			lastFour},
		{"another participant", []string{exampleFile, "--address", reflecting, "--service", creditService}, 1,
			creditService + ": it isn't served; the participant serves " + cardService},
		{"doesn't meet, as JSON", []string{changed, "--address", reflecting, "--json"}, 1,
			`"problems":[{"subject":"` + cardService + `/IssueCard","place":"reply acme.card.v1.CardIssued",`},

		{"nobody there", []string{exampleFile, "--address", nobody}, 2,
			"Check that a participant listens at " + nobody},
		{"no reflection", []string{exampleFile, "--address", plain}, 2,
			plain + " has no server reflection, neither grpc.reflection.v1 nor v1alpha\nServe server reflection, or"},
		{"unknown service", []string{exampleFile, "--address", reflecting, "--service", "acme.Cards"}, 2,
			"the file expects nothing of acme.Cards: it is about acme.card.v1.CardService, "},
		{"no file", []string{filepath.Join(dir, "none.yaml"), "--address", reflecting}, 2, "none.yaml: no such file"},
		{"cut off", []string{cut, "--address", reflecting}, 2, "cut.yaml: its last line isn't"},
		{"newer", []string{newer, "--address", reflecting}, 2, "newer.yaml: it has version 7 of the format"},
		{"no address", []string{exampleFile}, 2, "the participant's address is missing"},
		{"no descriptors", []string{exampleFile, "--address", plain, "--descriptors", changed}, 2,
			"it has no descriptors"},
		{"both", []string{exampleFile, "--address", reflecting, "conform.yaml"}, 2, "so it takes no FILE"},
		{"JUnit", []string{exampleFile, "--address", reflecting, "--junit", "x.xml"}, 2, "[against junit]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := run(t, setup{args: append([]string{"conform", "--against"}, test.args...)})
			output := got.stdout
			if test.code == 2 {
				output = got.stderr
			}
			if got.code != test.code || !strings.Contains(output, test.want) {
				t.Errorf("exit code %d, stdout %q, stderr %q; want %d and %q", got.code, got.stdout, got.stderr,
					test.code, test.want)
			}
			if test.code != 2 && got.stderr != "" {
				t.Errorf("stderr has %q", got.stderr)
			}
		})
	}
	if got := run(t, setup{args: []string{"conform", changed, "--service", "x"}}); got.code != 2 ||
		!strings.Contains(got.stderr, "--service needs --against") {
		t.Errorf("without --against, exit code %d and %q", got.code, got.stderr)
	}
}

// TestConformAgainstSendsNothing counts the calls of methods that a participant gets.
func TestConformAgainstSendsNothing(t *testing.T) {
	var calls atomic.Int64
	server := grpc.NewServer(grpc.UnaryInterceptor(func(
		ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
	) (any, error) {
		calls.Add(1)
		return handler(ctx, request)
	}))
	cards(server)
	reflection.Register(server)
	got := run(t, setup{args: []string{"conform", "--against", exampleFile, "--address", testkit.Serve(t, server)}})
	if got.code != 0 || calls.Load() != 0 {
		t.Errorf("exit code %d, %d calls: %s", got.code, calls.Load(), got.stderr)
	}
}
