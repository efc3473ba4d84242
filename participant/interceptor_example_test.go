package participant_test

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/participant"
	"github.com/treatyhq/treaty/participant/inbox"
)

// newServer returns a grpc.Server that the team has configured itself. It believes the orchestrator whose client
// certificate has the identity.
func newServer(in *inbox.Inbox, orchestrator string) *grpc.Server {
	trust := participant.Believe(orchestrator)
	server := grpc.NewServer(
		grpc.ChainUnaryInterceptor(
			participant.UnaryServerInterceptor(nil, trust), // First, so that it covers the interceptors after it.
		),
		grpc.ChainStreamInterceptor(participant.StreamServerInterceptor(nil, trust)),
	)
	customerv1.RegisterCustomerServiceServer(server, &service{inbox: in})
	participant.RegisterParticipantService(server, func() []string {
		return slices.Collect(maps.Keys(server.GetServiceInfo()))
	}, in)
	return server
}

// A plain grpc.Server with the interceptor and an inbox: a command that arrives twice runs once, and a compensation
// that arrives first runs nothing.
func ExampleUnaryServerInterceptor() {
	directory, err := os.MkdirTemp("", "participant")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(directory) }()
	ctx := context.Background()
	db, err := openCustomers(ctx, filepath.Join(directory, "customer.db"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = db.Close() }()
	in, err := inbox.OpenSQLite(ctx, db, inbox.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	server := newServer(in, participant.AnyCaller) // whoever reaches the loopback interface
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()

	connection, err := grpc.NewClient("passthrough:///"+listener.Addr().String(),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = connection.Close() }()
	client := customerv1.NewCustomerServiceClient(connection)
	request := &customerv1.ChangeAddressRequest{Customer: "customers/1", Address: &customerv1.Address{City: "Delft"}}

	first := participant.Command{
		Saga: "sagas/s1", CommandID: "sagas/s1/steps/1", Direction: participant.Action, Attempt: 1,
	}
	for range 2 {
		changed, err := client.ChangeAddress(first.Outgoing(ctx), request)
		fmt.Println("revision:", changed.GetAddressRevision(), err)
	}

	late := participant.Command{
		Saga: "sagas/s2", CommandID: "sagas/s2/steps/1", Direction: participant.Compensation, Attempt: 1,
	}
	_, err = client.RestoreAddress(late.Outgoing(ctx), &customerv1.RestoreAddressRequest{Action: request})
	fmt.Println("compensation:", err)
	late.Direction = participant.Action
	_, err = client.ChangeAddress(late.Outgoing(ctx), request)
	fmt.Println("late action:", status.Code(err))

	// Output:
	// revision: 2 <nil>
	// revision: 2 <nil>
	// compensation: <nil>
	// late action: FailedPrecondition
}

// openCustomers opens a database with one customer.
func openCustomers(ctx context.Context, path string) (*sql.DB, error) {
	db, err := inbox.OpenSQLiteDB(inbox.SQLiteDSN(path))
	if err != nil {
		return nil, err
	}
	_, err = db.ExecContext(ctx, customerTables)
	return db, err
}
