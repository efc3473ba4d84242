package client_test

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	"github.com/treatyhq/treaty/client"
	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
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

var _ = move // shown in docs/clients.md
