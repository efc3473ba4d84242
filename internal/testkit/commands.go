package testkit

import (
	"context"
	"sync"
	"testing"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Commands is the orchestrator's side of a stream of commands. Its methods may be called concurrently.
type Commands struct {
	// Stream is the stream itself.
	Stream grpc.BidiStreamingClient[treatyv1.StreamCommandsRequest, treatyv1.StreamCommandsResponse]

	// Greeting is the participant's.
	Greeting *treatyv1.ParticipantGreeting

	// Ending is closed when the participant wants the stream to end, and Ended when it has ended.
	Ending, Ended chan struct{}

	sending sync.Mutex
	mu      sync.Mutex
	last    uint64
	waiting map[uint64]chan *treatyv1.StreamedAnswer
	err     error // set before Ended is closed
}

// Greeting returns the greeting of an orchestrator.
func Greeting() *treatyv1.OrchestratorGreeting {
	return &treatyv1.OrchestratorGreeting{ProtocolVersion: 1, Scope: "test/0", Epoch: 7, MaxMessageBytes: 4 << 20}
}

// OpenCommands opens a stream and exchanges the greetings. It ends when ctx ends. The error is that of the stream.
func OpenCommands(
	ctx context.Context, connection grpc.ClientConnInterface, greeting *treatyv1.OrchestratorGreeting,
) (*Commands, error) {
	stream, err := treatyv1.NewParticipantServiceClient(connection).StreamCommands(ctx,
		grpc.MaxCallRecvMsgSize(16<<20))
	if err != nil {
		return nil, err
	}
	if err := stream.Send(&treatyv1.StreamCommandsRequest{Greeting: greeting}); err != nil {
		_, err := stream.Recv()
		return nil, err
	}
	first, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	if first.GetGreeting() == nil || len(first.GetAnswers()) > 0 || first.GetEnding() {
		return nil, status.Error(codes.Internal, "the first message isn't a greeting")
	}
	c := &Commands{
		Stream: stream, Greeting: first.GetGreeting(), Ending: make(chan struct{}), Ended: make(chan struct{}),
		waiting: make(map[uint64]chan *treatyv1.StreamedAnswer),
	}
	go c.receive()
	return c, nil
}

// MustOpenCommands opens a stream that ends with the test, which fails if it can't.
func MustOpenCommands(t testing.TB, connection grpc.ClientConnInterface) *Commands {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	commands, err := OpenCommands(ctx, connection, Greeting())
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		<-commands.Ended
	})
	return commands
}

// receive hands the answers to those who wait for them.
func (c *Commands) receive() {
	ending := false
	for {
		response, err := c.Stream.Recv()
		if err != nil {
			c.mu.Lock()
			c.err = err
			for _, waiting := range c.waiting {
				close(waiting)
			}
			c.waiting = nil
			c.mu.Unlock()
			close(c.Ended)
			return
		}
		if response.GetEnding() && !ending {
			ending = true
			close(c.Ending)
		}
		c.mu.Lock()
		for _, answer := range response.GetAnswers() {
			if waiting := c.waiting[answer.GetNumber()]; waiting != nil {
				delete(c.waiting, answer.GetNumber())
				waiting <- answer
			}
		}
		c.mu.Unlock()
	}
}

// Err returns what the stream has ended with, io.EOF if it ended well. Call it when Ended is closed.
func (c *Commands) Err() error { return c.err }

// Send sends commands in one message, each under a new number unless it has one. The answer to each comes from its
// channel, which is closed if the stream ends before.
func (c *Commands) Send(commands ...*treatyv1.StreamedCommand) ([]<-chan *treatyv1.StreamedAnswer, error) {
	answers := make([]<-chan *treatyv1.StreamedAnswer, len(commands))
	c.mu.Lock()
	for i, command := range commands {
		if command.GetNumber() == 0 {
			c.last++
			command.Number = c.last
		}
		waiting := make(chan *treatyv1.StreamedAnswer, 1)
		if answers[i] = waiting; c.waiting != nil {
			c.waiting[command.GetNumber()] = waiting
		} else {
			close(waiting)
		}
	}
	c.mu.Unlock()
	return answers, c.SendMessage(&treatyv1.StreamCommandsRequest{Commands: commands})
}

// SendMessage sends a message as it is.
func (c *Commands) SendMessage(message *treatyv1.StreamCommandsRequest) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	return c.Stream.Send(message)
}

// Do sends a command alone and returns its answer. The error is that of the stream or of ctx.
func (c *Commands) Do(ctx context.Context, command *treatyv1.StreamedCommand) (*treatyv1.StreamedAnswer, error) {
	answers, err := c.Send(command)
	if err != nil {
		return nil, err
	}
	select {
	case answer, ok := <-answers[0]:
		if !ok {
			return nil, c.Err()
		}
		return answer, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// StatusOf returns the status of an answer, and its trailers.
func StatusOf(answer *treatyv1.StreamedAnswer) (*status.Status, metadata.MD) {
	trailers := metadata.MD{}
	for _, trailer := range answer.GetTrailers() {
		trailers.Append(trailer.GetKey(), string(trailer.GetValue()))
	}
	if answer.GetFailure() == nil {
		return nil, trailers
	}
	failure := answer.GetFailure()
	return status.FromProto(&spb.Status{
		Code: failure.GetCode(), Message: failure.GetMessage(), Details: failure.GetDetails(),
	}), trailers
}
