package dispatch

import (
	"context"
	"errors"
	"io"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/hostile"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
)

// streamer is a participant that serves the stream of commands and counts what comes on it.
type streamer struct {
	*describer

	handle   handler
	window   int32
	digest   string          // of its contracts
	scopes   bool            // it reads the scope of each command
	senders  sync.Map        // the scopes of commands, as the participant takes them; see sender
	refuse   error           // every stream ends with it
	ending   <-chan struct{} // is closed when the participant wants its streams to end
	cut      <-chan error    // with which it ends a stream at once; io.EOF: without an error
	streamed atomic.Int32    // commands
	unary    atomic.Int32    // calls of commands
	opened   atomic.Int32    // streams
}

// newStreamer returns a participant that handles commands, whichever way they come.
func newStreamer(h handler) *streamer {
	s := &streamer{describer: newDescriber(), window: 100, handle: h}
	s.response.Features = append(s.response.Features,
		treatyv1.ParticipantFeature_PARTICIPANT_FEATURE_STREAM_COMMANDS)
	return s
}

// serve starts the participant.
func (s *streamer) serve(t *testing.T, options ...grpc.ServerOption) string {
	t.Helper()
	server := newServer(func(ctx context.Context, request []byte) ([]byte, error) {
		s.unary.Add(1)
		md := received(ctx)
		epoch, _ := strconv.ParseUint(strings.Join(md[wire.EpochKey], ""), 10, 64)
		s.senders.Store(sender{strings.Join(md[wire.ScopeKey], ""), epoch}, true)
		return s.handle(ctx, request)
	}, options...)
	treatyv1.RegisterParticipantServiceServer(server, s)
	return testkit.ServeOn(t, server, anyPort)
}

// StreamCommands implements treaty.v1.ParticipantService as simply as can be.
func (s *streamer) StreamCommands(
	stream grpc.BidiStreamingServer[treatyv1.StreamCommandsRequest, treatyv1.StreamCommandsResponse],
) error {
	if s.refuse != nil {
		return s.refuse
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if first.GetGreeting().GetScope() == "" || first.GetGreeting().GetEpoch() != 100 {
		return status.Errorf(codes.InvalidArgument, "the greeting is %v", first)
	}
	s.opened.Add(1)
	var mu sync.Mutex
	send := func(response *treatyv1.StreamCommandsResponse) {
		mu.Lock()
		defer mu.Unlock()
		_ = stream.Send(response)
	}
	send(&treatyv1.StreamCommandsResponse{
		Greeting: &treatyv1.ParticipantGreeting{
			Window: s.window, MaxMessageBytes: 1 << 20, ContractsDigest: s.digest, CommandScopes: s.scopes,
		},
	})
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-s.ending:
			send(&treatyv1.StreamCommandsResponse{Ending: true})
		case <-done:
		}
	}()
	ended := make(chan error, 1)
	go func() { ended <- s.receive(stream, send, first.GetGreeting()) }()
	select {
	case err := <-ended:
		return err
	case err := <-s.cut:
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}
}

// receive receives commands until the orchestrator closes its side, and lets them be answered.
func (s *streamer) receive(
	stream grpc.BidiStreamingServer[treatyv1.StreamCommandsRequest, treatyv1.StreamCommandsResponse],
	send func(*treatyv1.StreamCommandsResponse), greeting *treatyv1.OrchestratorGreeting,
) error {
	var running sync.WaitGroup
	defer running.Wait()
	for {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, command := range message.GetCommands() {
			s.streamed.Add(1)
			from := sender{greeting.GetScope(), greeting.GetEpoch()}
			if s.scopes && command.GetEpoch() != 0 {
				from = sender{command.GetScope(), command.GetEpoch()}
			}
			s.senders.Store(from, true)
			running.Go(func() {
				send(&treatyv1.StreamCommandsResponse{
					Answers: []*treatyv1.StreamedAnswer{s.answer(stream.Context(), command)},
				})
			})
		}
	}
}

func (s *streamer) answer(ctx context.Context, command *treatyv1.StreamedCommand) *treatyv1.StreamedAnswer {
	if timeout := command.GetTimeoutMicros(); timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(timeout)*time.Microsecond)
		defer cancel()
	}
	call := &streamedCall{method: "/" + command.GetMethod()}
	reply, err := s.handle(grpc.NewContextWithServerTransportStream(ctx, call), command.GetRequest())
	answer := &treatyv1.StreamedAnswer{Number: command.GetNumber(), Reply: reply}
	if err != nil {
		st := status.Convert(err).Proto()
		answer.Failure = &treatyv1.Failure{Code: st.GetCode(), Message: st.GetMessage(), Details: st.GetDetails()}
	}
	for key, values := range call.trailer {
		for _, value := range values {
			answer.Trailers = append(answer.Trailers, &treatyv1.Trailer{Key: key, Value: []byte(value)})
		}
	}
	return answer
}

// streamedCall collects the trailers of a command.
type streamedCall struct {
	method  string
	trailer metadata.MD
}

func (c *streamedCall) Method() string             { return c.method }
func (*streamedCall) SetHeader(metadata.MD) error  { return nil }
func (*streamedCall) SendHeader(metadata.MD) error { return nil }
func (c *streamedCall) SetTrailer(md metadata.MD) error {
	c.trailer = metadata.Join(c.trailer, md)
	return nil
}

// streamingDispatcher returns a dispatcher that may send commands.
func streamingDispatcher(t *testing.T, target string, change ...func(*testConfig)) *Dispatcher {
	t.Helper()
	me, _ := self()
	d := dispatcher(t, target, append([]func(*testConfig){func(c *testConfig) { c.Self = me }}, change...)...)
	awaitOpen(t, d)
	return d
}

// awaitStreams waits until all connections to the only participant have streams, and there are as many.
func awaitStreams(t *testing.T, d *Dispatcher, n int) {
	t.Helper()
	streams := d.participants[0].streams
	for {
		open := 0
		for _, c := range *streams.conns.Load() {
			if c.stream.Load() != nil {
				open++
			}
		}
		if open == n && open == len(*streams.conns.Load()) {
			return
		}
		select {
		case <-time.After(time.Millisecond):
		case <-t.Context().Done():
			t.Fatal("there are no streams")
		}
	}
}

// ofEpoch returns an attempt under the epoch of self.
func ofEpoch() *engine.Attempt {
	a := attempt()
	a.Scope, a.Epoch = "/0", 100
	return a
}

// TestBothWays compares what answers are taken for that came on the stream with those of unary calls.
func TestBothWays(t *testing.T) {
	pending := func(ctx context.Context, _ []byte) ([]byte, error) {
		_ = grpc.SetTrailer(ctx, metadata.Pairs(wire.PendingKey, "60"))
		return nil, nil
	}
	for name, handle := range map[string]handler{
		"a reply":               echo,
		"an empty reply":        says(codes.OK),
		"done":                  says(codes.OK, wire.AnswerDone),
		"pending":               pending,
		"a stored refusal":      says(codes.NotFound, wire.AnswerSettled),
		"a refusal":             says(codes.NotFound, wire.AnswerAttempt),
		"an unmarked refusal":   says(codes.NotFound),
		"unavailable":           says(codes.Unavailable, wire.AnswerAttempt),
		"a conflict":            says(codes.Aborted, wire.AnswerAttempt),
		"throttled":             says(codes.ResourceExhausted, wire.AnswerAttempt),
		"misdeployed":           says(codes.Unimplemented),
		"two marks":             says(codes.NotFound, wire.AnswerAttempt, wire.AnswerSettled),
		"a code out of range":   says(codes.Code(1234), wire.AnswerAttempt),
		"the code of a timeout": says(codes.DeadlineExceeded, wire.AnswerAttempt),
		"stale": saysReason(codes.Aborted, treatyv1.ErrorReason_ERROR_REASON_STALE_EPOCH,
			wire.AnswerAttempt),
		"other request": saysReason(codes.Internal, treatyv1.ErrorReason_ERROR_REASON_OTHER_REQUEST,
			wire.AnswerAttempt),
	} {
		t.Run(name, func(t *testing.T) {
			expectNoLeak(t)
			s := newStreamer(handle)
			address := s.serve(t)
			streaming := streamingDispatcher(t, address)
			awaitStreams(t, streaming, 1)
			single := streamingDispatcher(t, address, func(c *testConfig) { c.Participants[0].Unary = true })
			for what, change := range map[string]func(*engine.Attempt){
				"plain":         func(*engine.Attempt) {},
				"complete":      func(a *engine.Attempt) { a.Call.CompleteWithin = time.Hour },
				"an undo":       func(a *engine.Attempt) { a.Direction = engine.Compensation },
				"empty request": func(a *engine.Attempt) { a.Request = nil },
			} {
				one, other := ofEpoch(), ofEpoch()
				change(one)
				change(other)
				streamed, unary := s.streamed.Load(), s.unary.Load()
				want, got := single.Attempt(t.Context(), one), streaming.Attempt(t.Context(), other)
				if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
					t.Errorf("%s: the stream's answer differs (-unary +stream):\n%s", what, diff)
				}
				if s.streamed.Load() != streamed+1 || s.unary.Load() != unary+1 {
					t.Errorf("%s: %d streamed and %d unary calls, want one of each", what, s.streamed.Load()-streamed,
						s.unary.Load()-unary)
				}
			}
		})
	}
}

// TestMethodNotOnStream checks that a command is sent as a unary call if the participant doesn't take it on the stream.
func TestMethodNotOnStream(t *testing.T) {
	s := newStreamer(func(ctx context.Context, request []byte) ([]byte, error) {
		if stream := grpc.ServerTransportStreamFromContext(ctx); stream != nil {
			if _, streamed := stream.(*streamedCall); streamed {
				return says(codes.Unimplemented, wire.AnswerAttempt)(ctx, request)
			}
		}
		return request, nil
	})
	d := streamingDispatcher(t, s.serve(t))
	awaitStreams(t, d, 1)
	for range 3 {
		if answer := d.Attempt(t.Context(), ofEpoch()); answer.Outcome != outcomeDone || answer.Repeated {
			t.Errorf("got %v, want done", answer)
		}
	}
	if streamed, unary := s.streamed.Load(), s.unary.Load(); streamed != 1 || unary != 3 {
		t.Errorf("%d streamed and %d unary calls, want one attempt on the stream, and unary calls from then on",
			streamed, unary)
	}
}

// TestStreamRefused checks that commands are sent as unary calls while no stream can be opened, whoever says so.
func TestStreamRefused(t *testing.T) {
	for name, refuse := range map[string]error{
		"unimplemented": status.Error(codes.Unimplemented, "no"),
		"forbidden":     status.Error(codes.PermissionDenied, "no"),
		"unavailable":   status.Error(codes.Unavailable, "no"),
	} {
		t.Run(name, func(t *testing.T) {
			expectNoLeak(t)
			s := newStreamer(echo)
			s.refuse = refuse
			d := streamingDispatcher(t, s.serve(t))
			for range 3 {
				if answer := d.Attempt(t.Context(), ofEpoch()); answer.Outcome != outcomeDone {
					t.Errorf("got %v, want done", answer)
				}
			}
			if s.unary.Load() != 3 {
				t.Errorf("%d unary calls, want 3", s.unary.Load())
			}
		})
	}
}

// TestOneOfTwoAddressesHasNoStream checks that all addresses get their part while one has no stream.
func TestOneOfTwoAddressesHasNoStream(t *testing.T) {
	newer, older := newStreamer(echo), newStreamer(echo)
	older.refuse = status.Error(codes.Unimplemented, "no")
	port := freePort(t)
	for host, s := range map[string]*streamer{firstHost: newer, secondHost: older} {
		server := newServer(func(ctx context.Context, request []byte) ([]byte, error) {
			s.unary.Add(1)
			return s.handle(ctx, request)
		})
		treatyv1.RegisterParticipantServiceServer(server, s)
		serveAt(t, server, host, port)
	}
	d := streamingDispatcher(t, startNameServer(t, firstHost, secondHost).target(port), named)
	for range 200 {
		if answer := d.Attempt(t.Context(), ofEpoch()); answer.Outcome != outcomeDone {
			t.Fatalf("got %v, want done", answer)
		}
		if newer.unary.Load() > 2 && older.unary.Load() > 2 {
			return
		}
	}
	t.Errorf("%d and %d unary calls", newer.unary.Load(), older.unary.Load())
}

// disturb makes a unary call, with which a hostile middle does something to the whole connection.
func disturb(t *testing.T, d *Dispatcher) {
	t.Helper()
	a := attempt() // of another epoch than the stream's
	a.Call.Timeout = 50 * time.Millisecond
	d.Attempt(t.Context(), a)
}

// disturbing is a program that answers unary calls of a command on the first connection.
func disturbing(answer hostile.Answer) hostile.Program {
	return func(call *hostile.Call) hostile.Plan {
		if call.Method == "/"+testMethod && call.Connection == 1 {
			return hostile.Give(answer, hostile.BeforeRequest)
		}
		return hostile.Pass()
	}
}

// TestCutStream checks that commands whose stream is cut are in doubt, that they are answered when they are sent again,
// and that no breaker opens for it.
func TestCutStream(t *testing.T) {
	for name, test := range map[string]struct {
		answer hostile.Answer // to a unary call on the connection
		ends   error          // with which the participant ends its streams
	}{
		"connection closed": {answer: hostile.CloseConn()},
		"unavailable":       {ends: status.Error(codes.Unavailable, "cut")},
		"a proxy's error":   {ends: status.Error(codes.Unimplemented, "cut")},
		"no error":          {ends: io.EOF},
	} {
		t.Run(name, func(t *testing.T) {
			expectNoLeak(t)
			const commands = 20
			arrived, cut := make(chan struct{}, 10*commands), make(chan error)
			s := newStreamer(func(ctx context.Context, request []byte) ([]byte, error) {
				arrived <- struct{}{}
				if string(request) == "held" {
					<-ctx.Done()
				}
				return request, nil
			})
			s.cut = cut
			m := middle(t, s.serve(t), hostile.Options{}, disturbing(test.answer))
			d := streamingDispatcher(t, m.Addr(), func(c *testConfig) { c.Logger = testkit.Logger(t) })
			awaitStreams(t, d, 1)
			answers := make(chan engine.Answer, commands)
			for range commands {
				go func() {
					a := ofEpoch()
					a.Request = []byte("held")
					answers <- d.Attempt(t.Context(), a)
				}()
			}
			for range commands {
				<-arrived
			}
			if test.ends != nil {
				cut <- test.ends
			} else {
				disturb(t, d)
			}
			for range commands {
				if answer := <-answers; answer.Outcome != outcomeUnknown || answer.Evidence != engine.NoEvidence {
					t.Errorf("got %v, want a doubt", answer)
				}
			}
			if isOpen(d) {
				t.Error("the breaker is open for a participant that was never down")
			}
			attemptsUntilDone(t, d, manyAttempts, ofEpoch)
		})
	}
}

// TestHalfOpenStream checks that a stream on which nothing arrives any more is noticed as soon as single calls are.
func TestHalfOpenStream(t *testing.T) {
	expectNoLeak(t)
	s := newStreamer(echo)
	m := middle(t, s.serve(t), hostile.Options{}, disturbing(hostile.HalfOpen()))
	d := streamingDispatcher(t, m.Addr(), quick)
	awaitStreams(t, d, 1)
	if answer := d.Attempt(t.Context(), ofEpoch()); answer.Outcome != outcomeDone {
		t.Fatalf("got %v, want done", answer)
	}
	disturb(t, d)
	attemptsUntilDone(t, d, 50, func() *engine.Attempt {
		a := ofEpoch()
		a.Call.Timeout = 100 * time.Millisecond
		return a
	})
	awaitStreams(t, d, 1)
}

// TestStreamEnds checks that no command fails when participants end their streams, again and again.
func TestStreamEnds(t *testing.T) {
	expectNoLeak(t)
	ending := make(chan struct{})
	s := newStreamer(func(_ context.Context, request []byte) ([]byte, error) {
		runtime.Gosched() // so that several are in flight
		return request, nil
	})
	s.ending = ending
	d := streamingDispatcher(t, s.serve(t))
	awaitStreams(t, d, 1)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			for n := range 50 {
				if i == 0 && n == 10 {
					close(ending)
				}
				if answer := d.Attempt(t.Context(), ofEpoch()); answer.Outcome != outcomeDone {
					t.Errorf("got %v, want done", answer)
				}
			}
		})
	}
	all.Wait()
	if s.streamed.Load() == 0 || s.unary.Load() == 0 {
		t.Errorf("%d streamed, %d unary calls: the test tests too little", s.streamed.Load(), s.unary.Load())
	}
}

// TestWindowIsFull checks that a command goes as a unary call when the participant takes no more on the stream.
func TestWindowIsFull(t *testing.T) {
	release := make(chan struct{})
	arrived := make(chan struct{}, 10)
	s := newStreamer(func(_ context.Context, request []byte) ([]byte, error) {
		arrived <- struct{}{}
		<-release
		return request, nil
	})
	s.window = 2
	d := streamingDispatcher(t, s.serve(t))
	awaitStreams(t, d, 1)
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			if answer := d.Attempt(t.Context(), ofEpoch()); answer.Outcome != outcomeDone {
				t.Errorf("got %v, want done", answer)
			}
		})
	}
	for range 5 {
		<-arrived
	}
	close(release)
	all.Wait()
	if s.streamed.Load() != 2 || s.unary.Load() != 3 {
		t.Errorf("%d streamed, %d unary calls; want 2 and 3", s.streamed.Load(), s.unary.Load())
	}
}
