package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	"github.com/treatyhq/treaty/participant/inbox"
	"github.com/treatyhq/treaty/participant/participanttest"
	"github.com/treatyhq/treaty/services/internal/sqlitedb"
)

func start(t *testing.T) (client customerv1.CustomerServiceClient, path string) {
	t.Helper()
	connection, path := serve(t)
	return customerv1.NewCustomerServiceClient(connection), path
}

func serve(t *testing.T) (connection *grpc.ClientConn, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "customer.db")
	params := sqlitedb.Params{Path: path, Migrations: migrations}
	opened, err := sqlitedb.OpenStore(t.Context(), params, inbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	store := &store{opened}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return participanttest.Serve(t, func(r grpc.ServiceRegistrar) {
		service := &service{store: store}
		customerv1.RegisterCustomerServiceServer(r, service)
		privacyv1.RegisterUserDataServiceServer(r, service)
	}), path
}

func address(street string) *customerv1.Address {
	return &customerv1.Address{Lines: []string{street}, PostalCode: "2611 AA", City: "Delft", Country: "NL"}
}

func ada() *customerv1.CreateCustomerRequest {
	return &customerv1.CreateCustomerRequest{
		DisplayName: "Ada", Email: "ada@example.com", Address: address("Oude Delft 1"),
	}
}

func create(t *testing.T, client customerv1.CustomerServiceClient) string {
	t.Helper()
	created, err := client.CreateCustomer(t.Context(), ada())
	if err != nil {
		t.Fatal(err)
	}
	return created.GetCustomer()
}

func street(t *testing.T, client customerv1.CustomerServiceClient, name string) string {
	t.Helper()
	c, err := client.GetCustomer(t.Context(), &customerv1.GetCustomerRequest{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(c.GetAddress().GetLines(), "\n")
}

func TestCreateAndRemove(t *testing.T) {
	client, path := start(t)
	created, err := client.CreateCustomer(participanttest.Action(t.Context(), "s", 1), ada())
	if err != nil {
		t.Fatal(err)
	}
	again, err := client.CreateCustomer(participanttest.Action(t.Context(), "s", 1), ada())
	if err != nil || again.GetCustomer() != created.GetCustomer() {
		t.Errorf("the duplicate: %v, %v; want %v", again, err, created)
	}
	_, err = client.CreateCustomer(participanttest.Action(t.Context(), "other", 1), ada())
	if s := status.Convert(err); s.Code() != codes.AlreadyExists || len(s.Details()) != 1 {
		t.Errorf("the same e-mail address: %v, want ALREADY_EXISTS with EmailTaken", err)
	} else if _, ok := s.Details()[0].(*customerv1.EmailTaken); !ok {
		t.Errorf("the rejection is %v, want EmailTaken", s.Details()[0])
	}
	// The orchestrator never received the reply.
	undo := &customerv1.RemoveCustomerRequest{Action: ada()}
	for range 2 {
		if _, err := client.RemoveCustomer(participanttest.Compensation(t.Context(), "s", 1), undo); err != nil {
			t.Fatal(err)
		}
	}
	list, err := client.ListCustomers(t.Context(), &customerv1.ListCustomersRequest{})
	if err != nil || len(list.GetCustomers()) != 0 {
		t.Errorf("customers left: %v, %v", list, err)
	}
	checkLedger(t, path, []string{"s/1 action executed +1", "other/1 action refused +0",
		"s/1 compensation executed +1"})
}

func checkLedger(t *testing.T, path string, want []string) {
	t.Helper()
	ledger, err := participanttest.ReadLedger(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range ledger {
		id := strings.TrimPrefix(strings.Replace(r.CommandID, "/steps/", "/", 1), "sagas/")
		got = append(got, id+" "+string(r.Direction)+" "+r.Verdict+" +"+string(rune('0'+r.Duplicates)))
		if !strings.HasPrefix(r.Method, "/acme.customer.v1.CustomerService/") {
			t.Errorf("%s: method %q", r.CommandID, r.Method)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ledger (-want +got):\n%s", diff)
	}
}

// TestCrossingChanges undoes changes of one customer in the order in which they were made, and in reverse.
func TestCrossingChanges(t *testing.T) {
	for _, test := range []struct {
		name string
		undo []int
		want []string
	}{
		{"newest first", []int{2, 1}, []string{"A", "Oude Delft 1"}},
		{"oldest first", []int{1, 2}, []string{"B", "Oude Delft 1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			client, _ := start(t)
			name := create(t, client)
			replies := map[int]*customerv1.AddressChanged{}
			requests := map[int]*customerv1.ChangeAddressRequest{}
			for step, where := range map[int]string{1: "A", 2: "B"} {
				requests[step] = &customerv1.ChangeAddressRequest{Customer: name, Address: address(where)}
			}
			for step := 1; step <= 2; step++ {
				reply, err := client.ChangeAddress(participanttest.Action(t.Context(), "s", step), requests[step])
				if err != nil {
					t.Fatal(err)
				}
				replies[step] = reply
			}
			for i, step := range test.undo {
				if _, err := client.RestoreAddress(participanttest.Compensation(t.Context(), "s", step),
					&customerv1.RestoreAddressRequest{Action: requests[step], Reply: replies[step]}); err != nil {
					t.Fatal(err)
				}
				if got := street(t, client, name); got != test.want[i] {
					t.Errorf("after undoing step %d: %q, want %q", step, got, test.want[i])
				}
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	client, _ := start(t)
	name := create(t, client)
	closed, err := client.CloseCustomer(t.Context(), &customerv1.CloseCustomerRequest{Name: name})
	if err != nil || closed.GetState() != customerv1.CustomerState_CUSTOMER_STATE_CLOSED {
		t.Fatalf("closing: %v, %v", closed, err)
	}
	long := address(strings.Repeat("x", 300))
	for _, test := range []struct {
		name    string
		request *customerv1.ChangeAddressRequest
		code    codes.Code
	}{
		{"closed", &customerv1.ChangeAddressRequest{Customer: name, Address: address("A")}, codes.FailedPrecondition},
		{"unknown", &customerv1.ChangeAddressRequest{Customer: "customers/none", Address: address("A")},
			codes.NotFound},
		{"no address", &customerv1.ChangeAddressRequest{Customer: name}, codes.InvalidArgument},
		{"long line", &customerv1.ChangeAddressRequest{Customer: name, Address: long}, codes.InvalidArgument},
		{"no lines", &customerv1.ChangeAddressRequest{Customer: name, Address: &customerv1.Address{City: "Delft",
			Country: "NL"}}, codes.InvalidArgument},
		{"country", &customerv1.ChangeAddressRequest{Customer: name, Address: &customerv1.Address{Lines: []string{"A"},
			City: "Delft", Country: "nl"}}, codes.InvalidArgument},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := client.ChangeAddress(participanttest.Action(t.Context(),
				"s-"+strings.ReplaceAll(test.name, " ", "-"), 1), test.request)
			if status.Code(err) != test.code {
				t.Errorf("got %v, want %v", err, test.code)
			}
			if test.code == codes.FailedPrecondition {
				want := []any{&customerv1.CustomerClosed{Customer: name}}
				if diff := cmp.Diff(want, status.Convert(err).Details(), protocmp.Transform(),
					protocmp.IgnoreFields(&customerv1.CustomerClosed{}, "close_time")); diff != "" {
					t.Errorf("rejection (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestPages(t *testing.T) {
	client, _ := start(t)
	for _, email := range []string{"a@example.com", "b@example.com", "c@example.com"} {
		r := ada()
		r.Email = email
		if _, err := client.CreateCustomer(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	var emails []string
	for token := ""; ; {
		page, err := client.ListCustomers(t.Context(), &customerv1.ListCustomersRequest{PageSize: 2, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range page.GetCustomers() {
			emails = append(emails, c.GetEmail())
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	if diff := cmp.Diff([]string{"a@example.com", "b@example.com", "c@example.com"}, emails); diff != "" {
		t.Errorf("customers (-want +got):\n%s", diff)
	}
}
