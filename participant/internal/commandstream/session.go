package commandstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/incoming"
	"github.com/treatyhq/treaty/internal/wire"
)

const (
	// protocolVersion is the newest version of the protocol that this package speaks.
	protocolVersion = 1

	// maxBatch is the size of the largest message with several answers.
	maxBatch = 256 << 10

	// defaultMaxAnswer and leastMaxAnswer are about the size of the largest message in an orchestrator's greeting: what
	// none means, and the smallest one that is fine, in which every error fits.
	defaultMaxAnswer = 4 << 20
	leastMaxAnswer   = 64 << 10

	// answerHeader is what a message has around a single answer, at most.
	answerHeader = 16

	// maxTraceText is the length of the longest traceparent or tracestate. gRPC limits the metadata of unary calls.
	maxTraceText = 8 << 10

	// maxYields is how often the sender lets others run before it sends what there is.
	maxYields = 8
)

// answer is an answer that waits to be sent.
type answer struct {
	call    *call // nil: the command wasn't executed
	message *treatyv1.StreamedAnswer
	size    int
}

// session is one stream.
type session struct {
	server   *Server
	stream   incoming.CommandStream
	ctx      context.Context // ends with the stream
	metadata metadata.MD     // what all commands have in common
	address  []attribute.KeyValue
	spanless context.Context // ctx without the span of whoever opened the stream
	wake     chan struct{}   // has room for one

	// They are set with the greeting, before the first command.
	greeting  *treatyv1.OrchestratorGreeting
	maxAnswer int

	mu         sync.Mutex
	calls      map[uint64]*call // by number, until the answer is sent
	unanswered int              // how many places of the window are taken
	received   int              // how many commands there were
	answers    []answer         // to send
	greeted    bool
	closed     bool  // the orchestrator has closed its side
	failed     error // why the stream ends
	ended      bool
}

func newSession(ctx context.Context, server *Server, stream incoming.CommandStream) *session {
	return &session{
		server: server, stream: stream, ctx: ctx, metadata: metadataOf(ctx), address: addressOf(ctx),
		spanless: trace.ContextWithSpanContext(ctx, trace.SpanContext{}),
		wake:     make(chan struct{}, 1), calls: make(map[uint64]*call),
	}
}

// end drops the answers that come later.
func (s *session) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended, s.answers, s.calls = true, nil, nil
}

// notify wakes the sender.
func (s *session) notify() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// fail ends the stream with an error.
func (s *session) fail(err error) {
	s.mu.Lock()
	if s.failed == nil {
		s.failed = err
	}
	s.mu.Unlock()
	s.notify()
}

// receive receives until the orchestrator closes its side or the stream fails.
func (s *session) receive(opening incoming.Opening) {
	first, err := s.stream.Recv()
	if errors.Is(err, io.EOF) {
		err = broken("the stream has ended without a greeting")
	}
	if err == nil {
		err = s.greet(first, opening)
	}
	for err == nil {
		var request *treatyv1.StreamCommandsRequest
		if request, err = s.stream.Recv(); err == nil {
			err = s.take(request)
		}
	}
	if !errors.Is(err, io.EOF) {
		s.fail(err)
		return
	}
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.notify()
}

// broken returns the error for a peer that breaks the protocol.
func broken(format string, args ...any) error {
	return incoming.InvalidMetadata(fmt.Errorf("treaty.v1.ParticipantService/StreamCommands: "+format, args...))
}

// greet reads the first message of a stream.
func (s *session) greet(first *treatyv1.StreamCommandsRequest, opening incoming.Opening) error {
	greeting := first.GetGreeting()
	if greeting == nil {
		return broken("the first message has no greeting")
	}
	if len(first.GetCommands()) > 0 || len(first.GetCancelled()) > 0 {
		return broken("the message with the greeting has something else, too")
	}
	switch limit := greeting.GetMaxMessageBytes(); {
	case limit == 0:
		s.maxAnswer = defaultMaxAnswer - answerHeader
	case limit < leastMaxAnswer:
		return broken("max_message_bytes: want at least %d, got %d", leastMaxAnswer, limit)
	default:
		s.maxAnswer = int(min(limit, int64(s.server.params.maxMessageBytes()))) - answerHeader
	}
	if err := opening.Admit(s.ctx, greeting); err != nil {
		return err
	}
	s.greeting = greeting
	s.mu.Lock()
	s.greeted = true
	s.mu.Unlock()
	s.notify()
	return nil
}

// take enqueues the commands of a message. It never waits.
func (s *session) take(request *treatyv1.StreamCommandsRequest) error {
	if request.GetGreeting() != nil {
		return broken("a second greeting")
	}
	s.cancel(request.GetCancelled())
	commands := request.GetCommands()
	if len(commands) == 0 {
		return nil
	}
	now := time.Now()
	calls := make([]*call, 0, len(commands))
	s.mu.Lock()
	window := s.server.params.Window
	if s.unanswered+len(commands) > window {
		s.mu.Unlock()
		return status.Errorf(codes.ResourceExhausted, "treaty.v1.ParticipantService/StreamCommands: "+
			"more commands are unanswered than the window of %d allows", window)
	}
	s.unanswered += len(commands)
	s.received += len(commands)
	refused := false
	for _, streamed := range commands {
		c, err := s.admit(streamed, now)
		if err == nil {
			calls = append(calls, c)
			continue
		}
		refused = true
		message := &treatyv1.StreamedAnswer{Number: streamed.GetNumber(), Failure: failureOf(err)}
		if !errors.Is(err, errRepeated) {
			message.Trailers = []*treatyv1.Trailer{{Key: wire.AnswerKey, Value: []byte(wire.AnswerAttempt)}}
		}
		s.answers = append(s.answers, answer{message: message, size: proto.Size(message)})
	}
	s.mu.Unlock()
	if refused {
		s.notify()
	}
	s.server.pool.run(calls)
	return nil
}

// errRepeated is the error for a number of a command that isn't answered yet. Its answer may be taken for that of the
// other command, which may have been executed. So it leaves a doubt: it has no mark.
var errRepeated = status.Error(codes.Internal, "the number of the command is that of another one, which is unanswered")

// admit returns the call of a command. Its error is the command's answer.
func (s *session) admit(streamed *treatyv1.StreamedCommand, now time.Time) (*call, error) {
	number, name := streamed.GetNumber(), streamed.GetMethod()
	if _, repeated := s.calls[number]; repeated {
		return nil, errRepeated
	}
	switch {
	case number == 0:
		return nil, broken("the command has no number")
	case name == "":
		return nil, broken("the command has no method")
	case streamed.GetTimeoutMicros() < 0:
		return nil, broken("timeout_micros: want microseconds, got %d", streamed.GetTimeoutMicros())
	case len(streamed.GetTraceparent()) > maxTraceText || len(streamed.GetTracestate()) > maxTraceText:
		return nil, broken("the trace context has more than %d bytes", maxTraceText)
	}
	method := s.server.params.Method(name)
	if method == nil {
		return nil, status.Errorf(codes.Unimplemented, "this participant doesn't serve the method /%.200s", name)
	}
	command, err := incoming.StreamedCommand(s.greeting, streamed)
	if err != nil {
		return nil, incoming.InvalidMetadata(err)
	}
	if streamed.GetEpoch() != 0 {
		if err := incoming.CheckEpoch(command.Epoch, now); err != nil {
			return nil, err
		}
	}
	if len(s.calls) >= 2*s.server.params.Window {
		return nil, status.Error(codes.ResourceExhausted, "too many commands are executed whose callers have gone")
	}
	c := &call{session: s, method: method, streamed: streamed, command: command, counted: true}
	if micros := streamed.GetTimeoutMicros(); micros > 0 {
		c.deadline = now.Add(timeout(micros))
	}
	s.calls[number] = c
	return c, nil
}

// timeout returns a number of microseconds as a duration.
func timeout(micros int64) time.Duration {
	const most = 1 << 43 // which is long enough, and no overflow
	return time.Duration(min(micros, most)) * time.Microsecond
}

// cancel cancels commands. They take no places of the window any more, since nobody waits for their answers.
func (s *session) cancel(numbers []uint64) {
	for _, number := range numbers {
		s.mu.Lock()
		c := s.calls[number]
		if c != nil && c.counted {
			c.counted = false
			s.unanswered--
		}
		s.mu.Unlock()
		if c != nil {
			c.cancel()
		}
	}
}

// queue queues an answer.
func (s *session) queue(a answer) {
	s.mu.Lock()
	if !s.ended {
		s.answers = append(s.answers, a)
	}
	first := len(s.answers) == 1
	s.mu.Unlock()
	if first {
		s.notify()
	}
}

// serve greets and then sends answers until the stream ends. It returns what the stream ends with.
func (s *session) serve(opening incoming.Opening) error {
	go s.receive(opening)
	if err := s.awaitGreeting(); err != nil {
		return err
	}
	params := &s.server.params
	if err := s.stream.Send(&treatyv1.StreamCommandsResponse{Greeting: &treatyv1.ParticipantGreeting{
		ProtocolVersion: protocolVersion, Window: int32(min(params.Window, 1<<30)),
		MaxMessageBytes: int64(params.MaxRequestBytes), ContractsDigest: opening.ContractsDigest, CommandScopes: true,
	}}); err != nil {
		return err
	}
	return s.send()
}

// awaitGreeting waits for the orchestrator's greeting.
func (s *session) awaitGreeting() error {
	timeout := time.NewTimer(greetingTimeout)
	defer timeout.Stop()
	for {
		select {
		case <-s.wake:
		case <-timeout.C:
			return status.Error(codes.DeadlineExceeded, "the stream has no greeting")
		case <-s.server.stopping.Done():
			return status.Error(codes.Unavailable, "the participant stops")
		case <-s.ctx.Done():
			return status.FromContextError(s.ctx.Err()).Err()
		}
		s.mu.Lock()
		greeted, failed := s.greeted, s.failed
		s.mu.Unlock()
		if failed != nil || greeted {
			return failed
		}
	}
}

// send sends answers until the stream ends.
func (s *session) send() error {
	var (
		age      = time.NewTimer(s.server.maxAge())
		stopping = s.server.stopping.Done()
		linger   *time.Timer // runs once everything was answered after the ending
		expired  <-chan time.Time
		received int // as linger began
		ending   bool
		response treatyv1.StreamCommandsResponse
	)
	defer age.Stop()
	for {
		for s.batch(&response) {
			if err := s.stream.Send(&response); err != nil {
				return err
			}
		}
		state := s.state()
		switch {
		case state.failed != nil:
			return state.failed
		case state.closed && state.unanswered == 0:
			return nil
		case ending && state.unanswered == 0 && (linger == nil || state.received != received):
			if linger != nil {
				linger.Stop()
			}
			linger, received = time.NewTimer(s.server.linger), state.received
			expired = linger.C
		}
		select {
		case <-s.wake:
			continue
		case <-expired:
			if state = s.state(); state.unanswered == 0 && state.received == received {
				return nil
			}
			linger, expired = nil, nil
			continue
		case <-s.ctx.Done():
			return status.FromContextError(s.ctx.Err()).Err()
		case <-stopping:
		case <-age.C:
		}
		stopping = nil
		if !ending {
			ending = true
			if err := s.stream.Send(&treatyv1.StreamCommandsResponse{Ending: true}); err != nil {
				return err
			}
		}
	}
}

// state is what the sender needs to know of a session.
type state struct {
	unanswered, received int
	closed               bool
	failed               error
}

func (s *session) state() state {
	s.mu.Lock()
	defer s.mu.Unlock()
	return state{unanswered: s.unanswered, received: s.received, closed: s.closed, failed: s.failed}
}

// batch makes the next message. It returns false if there are no answers.
func (s *session) batch(response *treatyv1.StreamCommandsResponse) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.answers) == 0 {
		return false
	}
	// Commands that are nearly done are waited for: a message costs more than they do.
	for n, yields := 0, 0; len(s.answers) > n && len(s.answers) < s.unanswered && yields < maxYields; yields++ {
		n = len(s.answers)
		s.mu.Unlock()
		runtime.Gosched()
		s.mu.Lock()
	}
	clear(response.Answers)
	response.Answers = response.Answers[:0]
	size := 0
	for i, a := range s.answers {
		size += a.size + protowire.SizeVarint(uint64(a.size)) + 1
		if i > 0 && size > maxBatch {
			break
		}
		response.Answers = append(response.Answers, a.message)
		if a.call == nil {
			s.unanswered--
			continue
		}
		delete(s.calls, a.message.GetNumber())
		if a.call.counted {
			a.call.counted = false
			s.unanswered--
		}
	}
	n := copy(s.answers, s.answers[len(response.Answers):])
	clear(s.answers[n:])
	s.answers = s.answers[:n]
	return true
}

// maxMessageBytes is the size of the largest message that the server sends.
func (p *Params) maxMessageBytes() int { return MaxSendBytes(p.MaxReplyBytes) }

// MaxSendBytes returns the size of the largest message that a server sends whose largest reply has a size: one with a
// single answer, and one with several answers. A server's gRPC limit must not be lower.
func MaxSendBytes(maxReplyBytes int) int {
	const around = 64 << 10
	return max(maxReplyBytes, maxBatch) + around
}
