package commandstream

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/incoming"
	"github.com/treatyhq/treaty/internal/testkit"
)

const method = "acme.test.v1.Test/Do"

// do is what a test's method does. Its request and its reply are texts.
type do func(ctx context.Context, request string) (string, error)

// served is a server of streams whose only method is a test's.
type served struct {
	*Server

	grpc     *grpc.Server
	address  string
	admitted atomic.Int32
	admit    error
}

// serve serves streams whose commands call do. change may change the server before it serves.
func serve(t testing.TB, do do, change func(*served)) *served {
	t.Helper()
	m := NewMethod(MethodParams{Path: "/" + method, Handle: func(
		_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor,
	) (any, error) {
		request := new(wrapperspb.StringValue)
		if err := decode(request); err != nil {
			return nil, err
		}
		reply, err := do(ctx, request.GetValue())
		return wrapperspb.String(reply), err
	}})
	s := &served{Server: NewServer(Params{
		Method: func(name string) *Method {
			if name == method {
				return m
			}
			return nil
		},
		Window: 8, MaxRequestBytes: 4 << 20, MaxReplyBytes: 4 << 20,
	})}
	if change != nil {
		change(s)
	}
	s.grpc = grpc.NewServer(grpc.MaxSendMsgSize(MaxSendBytes(s.params.MaxReplyBytes)))
	incoming.RegisterStreamingParticipantService(s.grpc, func() []string { return nil }, s.Serve, s)
	s.address = testkit.Serve(t, s.grpc)
	t.Cleanup(s.Close)
	return s
}

// KeptMethods implements incoming.Keeper.
func (s *served) KeptMethods() []string { return nil }

// Hear implements incoming.Keeper.
func (s *served) Hear(
	context.Context, incoming.Caller, *treatyv1.DescribeRequest,
) (*treatyv1.HeardScope, error) {
	s.admitted.Add(1)
	return nil, s.admit
}

// ListCommands implements incoming.Keeper.
func (s *served) ListCommands(
	context.Context, incoming.Caller, *treatyv1.ListCommandsRequest,
) (*treatyv1.ListCommandsResponse, error) {
	return nil, nil
}

// CloseCommand implements incoming.Keeper.
func (s *served) CloseCommand(
	context.Context, incoming.Caller, *treatyv1.CloseCommandRequest,
) (*treatyv1.CloseCommandResponse, error) {
	return nil, nil
}

// open opens a stream.
func (s *served) open(t testing.TB) *testkit.Commands {
	t.Helper()
	return testkit.MustOpenCommands(t, testkit.Dial(t, s.address))
}

// command returns a command with a text.
func command(t testing.TB, text string) *treatyv1.StreamedCommand {
	t.Helper()
	request, err := proto.Marshal(wrapperspb.String(text))
	if err != nil {
		t.Fatal(err)
	}
	return &treatyv1.StreamedCommand{
		Method: method, CommandId: "sagas/s/steps/1", Attempt: 1, Request: request,
		Direction: treatyv1.StepDirection_STEP_DIRECTION_ACTION,
	}
}

// send sends commands and returns their answers.
func send(
	t testing.TB, commands *testkit.Commands, batch ...*treatyv1.StreamedCommand,
) []<-chan *treatyv1.StreamedAnswer {
	t.Helper()
	answers, err := commands.Send(batch...)
	if err != nil {
		t.Fatal(err)
	}
	return answers
}

// receive returns the answer to a command.
func receive(
	t testing.TB, commands *testkit.Commands, answer <-chan *treatyv1.StreamedAnswer,
) *treatyv1.StreamedAnswer {
	t.Helper()
	select {
	case got, ok := <-answer:
		if !ok {
			t.Fatal(commands.Err())
		}
		return got
	case <-time.After(10 * time.Second):
		t.Fatal("no answer")
		return nil
	}
}

// text returns the text of a reply.
func text(t testing.TB, answer *treatyv1.StreamedAnswer) string {
	t.Helper()
	var reply wrapperspb.StringValue
	if err := proto.Unmarshal(answer.GetReply(), &reply); err != nil || answer.GetFailure() != nil {
		t.Fatalf("got %v, want a reply", answer)
	}
	return reply.GetValue()
}

// echo returns its request.
func echo(_ context.Context, request string) (string, error) { return request, nil }
