package cli

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/participant/participanttest"
)

// customers are a participant that executes everything anew: it has no inbox.
type customers struct {
	customerv1.UnimplementedCustomerServiceServer
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
	customerv1.RegisterCustomerServiceServer(bare, customers{})
	address := testkit.Serve(t, bare)
	server := participanttest.Serve(t, func(r grpc.ServiceRegistrar) {
		customerv1.RegisterCustomerServiceServer(r, customers{})
	}).Target()
	reflecting := strings.TrimPrefix(server, "passthrough:///")
	good := file("good.yaml", command)
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"no argument":  {nil, "needs FILE"},
		"no file":      {[]string{filepath.Join(dir, "none.yaml")}, "none.yaml: no such file"},
		"no address":   {[]string{good}, "the participant's address is missing"},
		"wrong file":   {[]string{file("wrong.yaml", "commands: 3\n")}, "wrong.yaml: line 1"},
		"no value":     {[]string{file("v.yaml", strings.Replace(command, "{}", `{email: "${e}"}`, 1))}, "add --set e=VALUE"},
		"nobody there": {[]string{good, "--address", nobody}, "Check that a participant listens at " + nobody},
		"elsewhere":    {[]string{good, "--address", "192.0.2.1:7101", "--insecure"}, "add --destructive"},
		"no reflection": {[]string{good, "--address", address},
			"there is no server reflection at " + address},
		"another service": {[]string{
			file("other.yaml", strings.Replace(command, "CustomerService", "Customers", 1)), "--address", reflecting,
		}, "acme.customer.v1.Customers"},
		"no command": {[]string{
			file("nocommand.yaml", strings.Replace(command, "CreateCustomer", "CloseCustomer", 1)), "--address", reflecting,
		}, "isn't a command"},
		"another field": {[]string{
			file("field.yaml", strings.Replace(command, "{}", "{mail: x}", 1)), "--address", reflecting,
		}, `unknown field "mail"`},
		"another probe": {[]string{file("probe.yaml", command+
			"    effects: {call: acme.customer.v1.CustomerService/ListCustomers, count: name}\n"), "--address", reflecting,
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

// TestConformFails checks a participant that implements nothing.
func TestConformFails(t *testing.T) {
	connection := participanttest.Serve(t, func(r grpc.ServiceRegistrar) {
		customerv1.RegisterCustomerServiceServer(r, customers{})
	})
	file := testkit.WriteFile(t, t.TempDir(), "f.yaml",
		[]byte("commands:\n  - method: acme.customer.v1.CustomerService/CreateCustomer\n    request: {}\n"))
	got := run(t, setup{args: []string{
		"conform", file, "--address", strings.TrimPrefix(connection.Target(), "passthrough:///"),
	}})
	if got.code != 1 || !strings.Contains(got.stdout, "executed               FAILS    the action was answered Unimplemented") {
		t.Errorf("exit code %d:\n%s%s", got.code, got.stdout, got.stderr)
	}
	for _, name := range []string{"CustomerService/ChangeAddress", "CustomerService/GetCustomer"} {
		if !strings.Contains(got.stdout, "acme.customer.v1."+name+" is served and isn't checked") {
			t.Errorf("%s isn't said to be unchecked:\n%s", name, got.stdout)
		}
	}
}
