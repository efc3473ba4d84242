package client_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/treatyhq/treaty/client"
	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/orchestrator"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

func move(ctx context.Context, conn *grpc.ClientConn, in *customerv1.ChangeAddressSagaRequest) error {
	agreed, err := client.Run(ctx, customerv1.NewCustomerSagasClient(conn).ChangeAddress, in)
	notServed := client.Rejection[*cardv1.AddressNotServed]
	if refused, ok := notServed(err); ok {
		return fmt.Errorf("choose another address: %s", refused.GetReason())
	}
	if client.Unknown(err) {
		return fmt.Errorf("call again with the request id %q: %w", in.GetRequestId(), err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", client.Saga(err), err)
	}
	fmt.Println("the address has revision", agreed.GetAddressRevision())
	return nil
}

// A caller moves a customer. Cards aren't posted to P.O. boxes, so that the second saga is compensated.
func ExampleRun() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	conn, stopped, err := serve(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, line := range []string{"1 Main Street", "P.O. Box 7"} {
		err := move(ctx, conn, &customerv1.ChangeAddressSagaRequest{RequestId: line, Customer: "customers/ada",
			Address: &customerv1.Address{Lines: []string{line}}})
		if err != nil {
			fmt.Println(err)
		}
	}
	stop()
	fmt.Println("stopped:", <-stopped)
	// Output:
	// the address has revision 2
	// choose another address: it is a P.O. box
	// stopped: <nil>
}

// serve runs an orchestrator and a participant until ctx ends, and returns a connection to the orchestrator.
func serve(ctx context.Context) (conn *grpc.ClientConn, stopped <-chan error, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	participant := grpc.NewServer()
	cardv1.RegisterCardServiceServer(participant, cards{})
	go func() { _ = participant.Serve(listener) }()
	dir, err := os.MkdirTemp("", "treaty")
	if err != nil {
		return nil, nil, err
	}
	ready := make(chan orchestrator.Ready, 1)
	o, err := orchestrator.New(
		orchestrator.WithStore(filepath.Join(dir, "treaty.db")),
		orchestrator.WithParticipant("acme.card.v1.CardService", listener.Addr().String()),
		orchestrator.WithLogger(slog.New(slog.DiscardHandler)),
		orchestrator.WithReady(func(r orchestrator.Ready) { ready <- r }),
	)
	if err != nil {
		return nil, nil, err
	}
	saga.Register(o, customerv1.CustomerSagas_ChangeAddress_FullMethodName,
		func(ctx saga.Context, in *customerv1.ChangeAddressSagaRequest) (*customerv1.AddressAgreed, error) {
			err := saga.Call(ctx, cardv1.CardService_ChangePostalAddress_FullMethodName,
				&cardv1.ChangePostalAddressRequest{Customer: in.GetCustomer(),
					Postal: &cardv1.Postal{Lines: in.GetAddress().GetLines()}}, new(cardv1.PostalAddressChanged))
			if err != nil {
				return nil, err
			}
			return &customerv1.AddressAgreed{AddressRevision: 2}, nil
		})
	ended := make(chan error, 1)
	go func() {
		err := o.ListenAndServe(ctx, "127.0.0.1:0")
		participant.Stop()
		_ = os.RemoveAll(dir)
		ended <- err
	}()
	conn, err = grpc.NewClient((<-ready).Address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	return conn, ended, err
}

// cards is a participant.
type cards struct {
	cardv1.UnimplementedCardServiceServer
}

func (cards) ChangePostalAddress(
	_ context.Context, in *cardv1.ChangePostalAddressRequest,
) (*cardv1.PostalAddressChanged, error) {
	if !strings.HasPrefix(in.GetPostal().GetLines()[0], "P.O. Box") {
		return &cardv1.PostalAddressChanged{}, nil
	}
	refused, err := status.New(codes.FailedPrecondition, "not served").WithDetails(
		&cardv1.AddressNotServed{Reason: "it is a P.O. box"})
	if err != nil {
		return nil, err
	}
	return nil, refused.Err()
}
