package participant_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/ncruces/go-sqlite3/driver" // registers the "sqlite3" driver
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/participant"
	"github.com/treatyhq/treaty/participant/inbox"
)

const customerTables = `
CREATE TABLE customers (name TEXT PRIMARY KEY, closed INTEGER NOT NULL DEFAULT 0);
CREATE TABLE addresses (
	customer TEXT, revision INTEGER, city TEXT, undone INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (customer, revision)
);
INSERT INTO customers (name) VALUES ('customers/1');
INSERT INTO addresses (customer, revision, city) VALUES ('customers/1', 1, 'Leiden');
`

// docs:begin service

// service implements an ordinary gRPC service.
type service struct {
	customerv1.UnimplementedCustomerServiceServer

	inbox *inbox.Inbox
}

// ChangeAddress changes where a customer lives.
func (s *service) ChangeAddress(
	ctx context.Context, r *customerv1.ChangeAddressRequest,
) (*customerv1.AddressChanged, error) {
	return inbox.Handle(ctx, s.inbox, func(tx *inbox.Tx) (*customerv1.AddressChanged, error) {
		var closed bool
		err := tx.QueryRowContext(ctx, `SELECT closed FROM customers WHERE name = ?`, r.GetCustomer()).Scan(&closed)
		if errors.Is(err, sql.ErrNoRows) {
			return nil, status.Errorf(codes.NotFound, "there is no %.80q", r.GetCustomer())
		}
		if err != nil {
			return nil, fmt.Errorf("reading the customer: %w", err)
		}
		if closed {
			return nil, participant.Refuse(codes.FailedPrecondition, "the customer is closed",
				&customerv1.CustomerClosed{Customer: r.GetCustomer()})
		}
		// The reply is stored, so it contains the revision and not the address.
		changed := &customerv1.AddressChanged{Customer: r.GetCustomer()}
		err = tx.QueryRowContext(ctx, `
			INSERT INTO addresses (customer, revision, city)
			VALUES (?1, (SELECT max(revision) + 1 FROM addresses WHERE customer = ?1), ?2) RETURNING revision`,
			r.GetCustomer(), r.GetAddress().GetCity()).Scan(&changed.AddressRevision)
		if err != nil {
			return nil, fmt.Errorf("changing the address: %w", err)
		}
		return changed, nil
	})
}

// RestoreAddress undoes ChangeAddress. A customer's address is the newest revision that isn't undone.
func (s *service) RestoreAddress(
	ctx context.Context, r *customerv1.RestoreAddressRequest,
) (*customerv1.AddressRestored, error) {
	return inbox.Handle(ctx, s.inbox, func(tx *inbox.Tx) (*customerv1.AddressRestored, error) {
		changed := r.GetReply()
		if changed == nil { // The orchestrator never received it.
			changed = &customerv1.AddressChanged{}
			if _, err := inbox.ActionReply(ctx, s.inbox, tx, changed); err != nil {
				return nil, err
			}
		}
		_, err := tx.ExecContext(ctx, `UPDATE addresses SET undone = 1 WHERE customer = ? AND revision = ?`,
			changed.GetCustomer(), changed.GetAddressRevision())
		return &customerv1.AddressRestored{}, err
	})
}

// serveCustomers runs the service until ctx ends.
func serveCustomers(ctx context.Context, path string, ready func(address string)) (err error) {
	db, err := inbox.OpenSQLiteDB(inbox.SQLiteDSN(path))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.ExecContext(ctx, customerTables); err != nil {
		return err
	}
	// All commands of the service go through the inbox, so orchestrators may ask it what became of them.
	in, err := inbox.OpenSQLite(ctx, db, inbox.Options{Methods: []string{"acme.customer.v1.CustomerService"}})
	if err != nil {
		return err
	}

	server, err := participant.NewServer(participant.Options{Name: "customer", Keepers: []participant.Keeper{in}})
	if err != nil {
		return err
	}
	customerv1.RegisterCustomerServiceServer(server, &service{inbox: in})
	ready(server.Addr().String())
	return server.Serve(ctx)
}

// docs:end

// A participant receives one command twice, and then its compensation.
func Example() {
	directory, err := os.MkdirTemp("", "participant")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(directory) }()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	address, served := make(chan string, 1), make(chan error, 1)
	go func() {
		served <- serveCustomers(ctx, filepath.Join(directory, "customer.db"), func(a string) { address <- a })
	}()

	connection, err := grpc.NewClient("passthrough:///"+<-address,
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		fmt.Println(err)
		return
	}
	client := customerv1.NewCustomerServiceClient(connection)
	command := participant.Command{
		Saga: "sagas/s", CommandID: "sagas/s/steps/1", Direction: participant.Action, Attempt: 1,
	}
	request := &customerv1.ChangeAddressRequest{Customer: "customers/1", Address: &customerv1.Address{City: "Delft"}}
	for range 2 {
		changed, err := client.ChangeAddress(command.Outgoing(ctx), request)
		fmt.Println("revision:", changed.GetAddressRevision(), err)
	}
	command.Direction = participant.Compensation
	_, err = client.RestoreAddress(command.Outgoing(ctx), &customerv1.RestoreAddressRequest{Action: request})
	fmt.Println("restored:", err)

	_ = connection.Close()
	stop()
	fmt.Println("stopped:", <-served)

	// Output:
	// revision: 2 <nil>
	// revision: 2 <nil>
	// restored: <nil>
	// stopped: <nil>
}

// TestDocs checks that docs/participants.md contains the example that is compiled here.
func TestDocs(t *testing.T) {
	source, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, code, _ := strings.Cut(string(source), "// docs:begin service\n")
	code, _, _ = strings.Cut(code, "// docs:end")
	page, err := os.ReadFile("../docs/participants.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), "```go\n"+strings.TrimSpace(code)+"\n```") {
		t.Error("docs/participants.md doesn't hold the code between docs:begin and docs:end of example_test.go")
	}
	if !strings.Contains(string(page), "```sql\n"+strings.TrimSpace(inbox.SQLiteSchema)+"\n```") {
		t.Error("docs/participants.md doesn't hold inbox.SQLiteSchema")
	}
}
