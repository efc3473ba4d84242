package inbox_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	_ "github.com/ncruces/go-sqlite3/driver" // registers the "sqlite3" driver
	"google.golang.org/grpc/status"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/participant"
	"github.com/treatyhq/treaty/participant/inbox"
)

const towns = `CREATE TABLE towns (customer TEXT PRIMARY KEY, city TEXT NOT NULL)`

// A handler runs once, no matter how often its command arrives. It doesn't run at all if its compensation arrived
// first.
func ExampleHandle() {
	directory, err := os.MkdirTemp("", "inbox")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(directory) }()
	ctx := context.Background()
	db, err := inbox.OpenSQLiteDB(inbox.SQLiteDSN(filepath.Join(directory, "customer.db")))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(ctx, towns); err != nil {
		fmt.Println(err)
		return
	}
	in, err := inbox.OpenSQLite(ctx, db, inbox.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}

	changeAddress := func(
		ctx context.Context, request *customerv1.ChangeAddressRequest,
	) (*customerv1.AddressChanged, error) {
		return inbox.Handle(ctx, in, func(tx *inbox.Tx) (*customerv1.AddressChanged, error) {
			fmt.Println("the handler runs")
			_, err := tx.ExecContext(ctx,
				`INSERT INTO towns VALUES (?, ?) ON CONFLICT DO UPDATE SET city = excluded.city`,
				request.GetCustomer(), request.GetAddress().GetCity())
			return &customerv1.AddressChanged{Customer: request.GetCustomer()}, err
		})
	}
	restoreAddress := func(
		ctx context.Context, _ *customerv1.RestoreAddressRequest,
	) (*customerv1.AddressRestored, error) {
		return inbox.Handle(ctx, in, func(*inbox.Tx) (*customerv1.AddressRestored, error) {
			fmt.Println("the compensation runs")
			return &customerv1.AddressRestored{}, nil
		})
	}

	// participant.UnaryServerInterceptor puts the command into the context.
	command := participant.Command{
		Saga: "sagas/s1", CommandID: "sagas/s1/steps/1", Direction: participant.Action, Attempt: 1,
	}
	request := &customerv1.ChangeAddressRequest{Customer: "customers/1", Address: &customerv1.Address{City: "Delft"}}
	for range 2 {
		reply, err := changeAddress(participant.NewContext(ctx, command), request)
		fmt.Println(reply.GetCustomer(), err)
	}

	command = participant.Command{
		Saga: "sagas/s2", CommandID: "sagas/s2/steps/1", Direction: participant.Compensation, Attempt: 1,
	}
	_, err = restoreAddress(participant.NewContext(ctx, command), &customerv1.RestoreAddressRequest{Action: request})
	fmt.Println("compensation:", err)
	command.Direction = participant.Action
	_, err = changeAddress(participant.NewContext(ctx, command), request)
	fmt.Println("late action:", status.Code(err))

	// Output:
	// the handler runs
	// customers/1 <nil>
	// customers/1 <nil>
	// compensation: <nil>
	// late action: FailedPrecondition
}
