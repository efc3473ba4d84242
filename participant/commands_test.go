package participant_test

import (
	"context"
	"sync/atomic"
	"testing"

	"google.golang.org/protobuf/proto"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/participant"
)

// changer answers ChangeAddress and RestoreAddress with functions.
type changer struct {
	customerv1.UnimplementedCustomerServiceServer

	change  func(context.Context, *customerv1.ChangeAddressRequest) (*customerv1.AddressChanged, error)
	restore func(context.Context, *customerv1.RestoreAddressRequest) (*customerv1.AddressRestored, error)
}

func (c *changer) ChangeAddress(
	ctx context.Context, request *customerv1.ChangeAddressRequest,
) (*customerv1.AddressChanged, error) {
	return c.change(ctx, request)
}

func (c *changer) RestoreAddress(
	ctx context.Context, request *customerv1.RestoreAddressRequest,
) (*customerv1.AddressRestored, error) {
	return c.restore(ctx, request)
}

// echoing returns the name in the request.
func echoing(_ context.Context, request *customerv1.ChangeAddressRequest) (*customerv1.AddressChanged, error) {
	return &customerv1.AddressChanged{Customer: request.GetCustomer()}, nil
}

// action returns an action of a saga that changes a customer's address.
func action(t testing.TB, customer string) *treatyv1.StreamedCommand {
	t.Helper()
	request, err := proto.Marshal(&customerv1.ChangeAddressRequest{Customer: customer})
	if err != nil {
		t.Fatal(err)
	}
	return &treatyv1.StreamedCommand{
		Method: changeAddress, CommandId: "sagas/s/steps/1", Attempt: 1, Request: request,
		Direction: treatyv1.StepDirection_STEP_DIRECTION_ACTION,
	}
}

// TestThousandCommandsAtOnce sends a thousand commands whose handlers wait for each other.
func TestThousandCommandsAtOnce(t *testing.T) {
	const n = 1000
	var entered atomic.Int32
	all := make(chan struct{})
	server, _ := serve(t, participant.Options{}, &changer{change: func(
		ctx context.Context, request *customerv1.ChangeAddressRequest,
	) (*customerv1.AddressChanged, error) {
		if entered.Add(1) == n {
			close(all)
		}
		<-all
		return echoing(ctx, request)
	}})
	commands := testkit.MustOpenCommands(t, testkit.Dial(t, server.Addr().String()))
	batch := make([]*treatyv1.StreamedCommand, n)
	for i := range batch {
		batch[i] = action(t, string(rune('a'+i)))
	}
	answers, err := commands.Send(batch...)
	if err != nil {
		t.Fatal(err)
	}
	for i := range answers {
		answer, ok := <-answers[i]
		if !ok {
			t.Fatal(commands.Err())
		}
		var reply customerv1.AddressChanged
		if err := proto.Unmarshal(answer.GetReply(), &reply); err != nil || answer.GetFailure() != nil {
			t.Fatal(answer, err)
		}
		if reply.GetCustomer() != string(rune('a'+i)) {
			t.Errorf("command %d was answered with the reply to %q", i, reply.GetCustomer())
		}
	}
}
