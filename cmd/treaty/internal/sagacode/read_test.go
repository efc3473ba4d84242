package sagacode

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/treatyhq/treaty/cmd/treaty/internal/contracts"
	"github.com/treatyhq/treaty/internal/drift"
)

const root = "../../../.."

const (
	issueCard      = "acme.card.v1.CardSagas/IssueCard"
	changeAddress  = "acme.customer.v1.CustomerSagas/ChangeAddress"
	review         = "acme.customer.v1.ReviewSagas/ReviewCustomer"
	verify         = "acme.identity.v1.IdentitySagas/VerifyApplicant"
	deleteUserData = "acme.privacy.v1.PrivacySagas/DeleteUserData"
)

// read reads a folder, and returns what each saga does: the commands, each with the rejections that the saga looks for.
func read(t *testing.T, params Params) (code *Code, does map[string][]string) {
	t.Helper()
	code, err := Read(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	does = make(map[string][]string)
	for _, use := range code.Uses {
		does[use.Saga] = append(does[use.Saga], describeUse(use))
	}
	return code, does
}

func describeUse(use contracts.Use) string {
	text := string(use.Method.Name())
	declared := drift.Rejections(use.Method)
	slices.Sort(declared)
	for _, rejection := range declared {
		if slices.Contains(use.Handles, rejection) {
			text += " " + string(rejection.Name())
		}
	}
	return text
}

// TestWays finds the commands of sagas and the rejections that they look for, in whichever way the code is written.
func TestWays(t *testing.T) {
	card := []string{
		"IssueCard AddressNotServed LimitNotOffered", // an implementation of an interface, by type switch and assertion
		"CheckCredit CreditDeclined",                 // a method as a value, and a generic function
		"CreateCustomer",                             // a closure that calls a helper in another package
	}
	for _, test := range []struct {
		name  string
		sagas []string
		want  map[string][]string
		notes []string
	}{
		{
			name: "all",
			want: map[string][]string{
				issueCard:      card,
				changeAddress:  {"ChangeAddress CustomerClosed"}, // a function literal
				review:         {"GetLastCheck", "GetCustomer"},  // a table of functions
				verify:         {"RegisterApplicant"},
				deleteUserData: {"DeleteUserData"}, // a broadcast
			},
			notes: []string{
				review + " looks for the rejection acme.customer.v1.EmailTaken, which none of its commands declares",
			},
		},
		{name: "one", sagas: []string{changeAddress}, want: map[string][]string{
			changeAddress: {"ChangeAddress CustomerClosed"},
		}},
		{name: "one and its child", sagas: []string{issueCard}, want: map[string][]string{
			issueCard: card, verify: {"RegisterApplicant"},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, does := read(t, Params{Dir: filepath.Join("testdata", "ways"), Sagas: test.sagas})
			if diff := cmp.Diff(test.want, does); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.notes, code.Notes); diff != "" {
				t.Errorf("notes (-want +got):\n%s", diff)
			}
		})
	}
}

// TestForeignChild has a child saga whose code is in another package: it is like a command of a participant.
func TestForeignChild(t *testing.T) {
	_, does := read(t, Params{Dir: filepath.Join("testdata", "parent")})
	want := map[string][]string{deleteUserData: {"VerifyApplicant ApplicantTurnedDown"}}
	if diff := cmp.Diff(want, does); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestReadBelow reads the packages below a folder, those of the example company among them.
func TestReadBelow(t *testing.T) {
	code, _ := read(t, Params{Dir: filepath.Join(root, "services") + "/..."})
	want := []string{
		issueCard, "acme.card.v1.FamilySagas/IssueFamilyCards", changeAddress, review, verify, deleteUserData,
	}
	if diff := cmp.Diff(want, code.Sagas); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestReadNothing has folders that can't be read.
func TestReadNothing(t *testing.T) {
	for _, test := range []struct {
		name   string
		params Params
		path   string
		want   string
	}{
		{"no folder", Params{Dir: "testdata/nowhere"}, "", "testdata/nowhere is no folder: name the folder"},
		{"a file", Params{Dir: "read.go"}, "", "read.go is no folder"},
		{"no Go", Params{Dir: "testdata/empty"}, "", "no Go files"},
		{"no module", Params{Dir: "/"}, "", "go.mod file not found"},
		{"no sagas", Params{Dir: "testdata/nosagas"}, "", "testdata/nosagas has no sagas: name the folder"},
		{"participants", Params{Dir: filepath.Join(root, "services", "card")}, "", "has no sagas"},
		{"the generated interfaces", Params{Dir: filepath.Join(root, "gen", "acme") + "/..."}, "", "has no sagas"},
		{"doesn't compile", Params{Dir: "testdata/broken"}, "", `broken.go:5:28: cannot use "one"`},
		{"unknown method", Params{Dir: "testdata/unclear"}, "", deleteUserData + ": unclear.go:17 sends a command " +
			"with a method that is only known at run time: use the generated functions"},
		{"no contract", Params{Dir: "testdata/foreign"}, "", deleteUserData +
			" sends a command to shop.v1.PaymentService/Charge, whose contract isn't in the code"},
		{"unknown saga", Params{Dir: "testdata/ways", Sagas: []string{"acme.card.v1.CardSagas/Issue"}}, "",
			"testdata/ways has no code for the saga acme.card.v1.CardSagas/Issue: it has code for " + issueCard},
		{"no go command", Params{Dir: "testdata/ways"}, "nowhere", "the go command isn't there"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.path != "" {
				t.Setenv("PATH", filepath.Join(t.TempDir(), test.path))
			}
			_, err := Read(t.Context(), test.params)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// TestReadInterrupted ends while the go command runs.
func TestReadInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Read(ctx, Params{Dir: "testdata/ways"}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestReadOtherModule reads sagas in a module of their own, which requires Treaty.
func TestReadOtherModule(t *testing.T) {
	checkout, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	requirements, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	sums, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(filepath.Join("testdata", "parent", "parent.go"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	module := regexp.MustCompile(`(?m)^module .*$`).ReplaceAllString(string(requirements), "module example.com/shop") +
		fmt.Sprintf("\nrequire %[1]s v0.0.0\n\nreplace %[1]s => %[2]q\n", "github.com/treatyhq/treaty", checkout)
	for name, content := range map[string]string{
		"go.mod": module, "go.sum": string(sums), "sagas/parent.go": string(source),
	} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("GOFLAGS", "-mod=mod")
	t.Setenv("GOWORK", "off")
	_, does := read(t, Params{Dir: filepath.Join(dir, "sagas")})
	want := map[string][]string{deleteUserData: {"VerifyApplicant ApplicantTurnedDown"}}
	if diff := cmp.Diff(want, does); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestContractsAreThoseOfTheCode finds the whole contract of a method in the generated code.
func TestContractsAreThoseOfTheCode(t *testing.T) {
	code, _ := read(t, Params{Dir: filepath.Join("testdata", "ways"), Sagas: []string{changeAddress}})
	file, err := contracts.New(code.Uses)
	if err != nil {
		t.Fatal(err)
	}
	method := file.Services["acme.customer.v1.CustomerService"]["ChangeAddress"]
	want := &contracts.Method{
		Request: "acme.customer.v1.ChangeAddressRequest", Reply: "acme.customer.v1.AddressChanged",
		Kind: drift.Compensatable, CompensatedBy: "RestoreAddress",
		Handles: []protoreflect.FullName{"acme.customer.v1.CustomerClosed"}, Sagas: []string{changeAddress},
	}
	if diff := cmp.Diff(want, method); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := file.Messages["acme.customer.v1.CustomerClosed"][1].String(); got != "string customer" {
		t.Errorf("the rejection has the field %q", got)
	}
}
