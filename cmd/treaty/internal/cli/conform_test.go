package cli

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/participant/participanttest"
)

// customers are a participant that executes every call anew: it has no inbox. It implements one command.
type customers struct {
	customerv1.UnimplementedCustomerServiceServer

	revision atomic.Int64
}

func (c *customers) ChangeAddress(
	_ context.Context, r *customerv1.ChangeAddressRequest,
) (*customerv1.AddressChanged, error) {
	if r.GetCustomer() == "" {
		return nil, status.Error(codes.InvalidArgument, "customer: missing")
	}
	return &customerv1.AddressChanged{Customer: r.GetCustomer(), AddressRevision: c.revision.Add(1)}, nil
}

func (c *customers) RestoreAddress(
	context.Context, *customerv1.RestoreAddressRequest,
) (*customerv1.AddressRestored, error) {
	return &customerv1.AddressRestored{}, nil
}

// TestConformBadInput gives treaty conform what it can't work with.
func TestConformBadInput(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string { return testkit.WriteFile(t, dir, name, []byte(text)) }
	const command = "commands:\n  - method: acme.customer.v1.CustomerService/CreateCustomer\n    request: {}\n"
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	bare := grpc.NewServer()
	customerv1.RegisterCustomerServiceServer(bare, &customers{})
	address := testkit.Serve(t, bare)
	server := participanttest.Serve(t, func(r grpc.ServiceRegistrar) {
		customerv1.RegisterCustomerServiceServer(r, &customers{})
	}).Target()
	reflecting := strings.TrimPrefix(server, "passthrough:///")
	good := file("good.yaml", command)
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"no argument": {nil, "needs FILE"},
		"no file":     {[]string{filepath.Join(dir, "none.yaml")}, "none.yaml: no such file"},
		"no address":  {[]string{good}, "the participant's address is missing"},
		"wrong file":  {[]string{file("wrong.yaml", "commands: 3\n")}, "wrong.yaml: line 1"},
		"no value": {[]string{file("v.yaml", strings.Replace(command, "{}", `{email: "${e}"}`, 1))},
			"add --set e=VALUE"},
		"nobody there": {[]string{good, "--address", nobody}, "Check that a participant listens at " + nobody},
		"elsewhere":    {[]string{good, "--address", "192.0.2.1:7101", "--insecure"}, "add --destructive"},
		"no reflection": {[]string{good, "--address", address},
			"there is no server reflection at " + address},
		"another service": {[]string{
			file("other.yaml", strings.Replace(command, "CustomerService", "Customers", 1)), "--address", reflecting,
		}, "acme.customer.v1.Customers"},
		"no command": {[]string{
			file("nocommand.yaml", strings.Replace(command, "CreateCustomer", "CloseCustomer", 1)),
			"--address", reflecting,
		}, "leaves options out"},
		"another field": {[]string{
			file("field.yaml", strings.Replace(command, "{}", "{mail: x}", 1)), "--address", reflecting,
		}, `unknown field "mail"`},
		"another probe": {[]string{file("probe.yaml", command+
			"    effects: {call: acme.customer.v1.CustomerService/ListCustomers, count: name}\n"),
			"--address", reflecting,
		}, `has no field "name"`},
		"no descriptors": {[]string{good, "--address", reflecting, "--descriptors", good}, "it has no descriptors"},
	} {
		t.Run(name, func(t *testing.T) {
			got := run(t, setup{args: append([]string{"conform"}, test.args...)})
			if got.code != 2 || !strings.Contains(got.stderr, test.want) {
				t.Errorf("exit code %d, %q; want 2 and %q", got.code, got.stderr, test.want)
			}
		})
	}
}

// TestConformWithoutInbox checks a participant that has no inbox. What it can't promise fails, and only that.
func TestConformWithoutInbox(t *testing.T) {
	server := participanttest.Serve(t, func(r grpc.ServiceRegistrar) {
		customerv1.RegisterCustomerServiceServer(r, &customers{})
	})
	home, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	text := `commands:
  - method: acme.customer.v1.CustomerService/ChangeAddress
    request: {customer: customers/ada}
    refused: {}
except:
  - acme.customer.v1.CustomerService/CreateCustomer
  - acme.customer.v1.CustomerService/GetCustomer
`
	if err := os.WriteFile("conform.yaml", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	address := strings.TrimPrefix(server.Target(), "passthrough:///")
	s := setup{
		args: []string{"conform", "conform.yaml", "--address", address, "--junit", "report.xml"}, address: address,
	}
	got := run(t, s)
	s.args[3] = "127.0.0.1:7101"
	got.stdout = regexp.MustCompile(`conform-[0-9a-f]{8}`).ReplaceAllString(got.stdout, "conform-5f0a3b1c")
	t.Chdir(home)
	golden(t, "conform_no_inbox", s, got)
	if got.code != 1 {
		t.Errorf("exit code %d, want 1", got.code)
	}
}

// TestConformFails checks a participant that implements nothing.
func TestConformFails(t *testing.T) {
	connection := participanttest.Serve(t, func(r grpc.ServiceRegistrar) {
		customerv1.RegisterCustomerServiceServer(r, &customers{})
	})
	file := testkit.WriteFile(t, t.TempDir(), "f.yaml",
		[]byte("commands:\n  - method: acme.customer.v1.CustomerService/CreateCustomer\n    request: {}\n"))
	got := run(t, setup{args: []string{
		"conform", file, "--address", strings.TrimPrefix(connection.Target(), "passthrough:///"),
	}})
	if got.code != 1 ||
		!strings.Contains(got.stdout, "executed               FAILS    the action was answered Unimplemented") {
		t.Errorf("exit code %d:\n%s%s", got.code, got.stdout, got.stderr)
	}
	for _, name := range []string{"CustomerService/ChangeAddress", "CustomerService/GetCustomer"} {
		if !strings.Contains(got.stdout, "acme.customer.v1."+name+" is served and isn't checked") {
			t.Errorf("%s isn't said to be unchecked:\n%s", name, got.stdout)
		}
	}
}
