package orchestrator_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/orchestrator"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// customers is a participant.
type customers struct {
	customerv1.UnimplementedCustomerServiceServer
}

func (customers) ChangeAddress(context.Context, *customerv1.ChangeAddressRequest) (*customerv1.AddressChanged, error) {
	return &customerv1.AddressChanged{AddressRevision: 2}, nil
}

// An orchestrator with one saga of one step, its participant, and a client.
func ExampleNew() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	dir, err := os.MkdirTemp("", "treaty")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	// The participant: an ordinary gRPC server.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	participant := grpc.NewServer()
	customerv1.RegisterCustomerServiceServer(participant, customers{})
	go func() { _ = participant.Serve(listener) }()
	defer participant.Stop()

	// The orchestrator. Generated code has a Register function per saga service, and a function per command.
	ready := make(chan orchestrator.Ready, 1)
	o, err := orchestrator.New(
		orchestrator.WithStore(filepath.Join(dir, "treaty.db")),
		orchestrator.WithParticipant("acme.customer.v1.CustomerService", listener.Addr().String()),
		orchestrator.WithLogger(slog.New(slog.DiscardHandler)),
		orchestrator.WithReady(func(r orchestrator.Ready) { ready <- r }),
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	saga.Register(o, customerv1.CustomerSagas_ChangeAddress_FullMethodName,
		func(ctx saga.Context, in *customerv1.ChangeAddressSagaRequest) (*customerv1.AddressAgreed, error) {
			changed := new(customerv1.AddressChanged)
			err := saga.Call(ctx, customerv1.CustomerService_ChangeAddress_FullMethodName,
				&customerv1.ChangeAddressRequest{Customer: in.GetCustomer(), Address: in.GetAddress()}, changed)
			if err != nil {
				return nil, err
			}
			return &customerv1.AddressAgreed{Customer: in.GetCustomer(),
				AddressRevision: changed.GetAddressRevision()}, nil
		})
	served := make(chan error, 1)
	go func() { served <- o.ListenAndServe(ctx, "127.0.0.1:0") }()

	// A client, who calls the saga like any gRPC method.
	conn, err := grpc.NewClient((<-ready).Address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		fmt.Println(err)
		return
	}
	agreed, err := customerv1.NewCustomerSagasClient(conn).ChangeAddress(ctx,
		&customerv1.ChangeAddressSagaRequest{Customer: "customers/ada"})
	fmt.Println(agreed.GetCustomer(), "has address revision", agreed.GetAddressRevision(), err)
	_ = conn.Close()

	stop()
	fmt.Println("stopped:", <-served)
	// Output:
	// customers/ada has address revision 2 <nil>
	// stopped: <nil>
}
