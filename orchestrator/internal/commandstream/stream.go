package commandstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

const (
	// maxBatchBytes is the size of the largest message with several commands.
	maxBatchBytes = 256 << 10

	// commandBytes is more than a command has beside its texts and its request.
	commandBytes = 112

	// answerBytes is how much larger a message with one answer may be than the largest reply: status and trailers.
	answerBytes = 64 << 10
)

// ErrNoGreeting says that the other side of a stream doesn't greet, so that it is none of this protocol.
var ErrNoGreeting = errors.New("the participant's first message has no greeting")

// Command is one attempt of a command.
type Command struct {
	// Method is the full name of the method, without a leading slash.
	Method string

	// ID is the command id.
	ID string

	// Direction is the direction.
	Direction treatyv1.StepDirection

	// Attempt is the number of this attempt among those of the step.
	Attempt int

	// SagaStart is when the saga started, or zero.
	SagaStart time.Time

	// RequestDigest is the digest of the action's request, or empty.
	RequestDigest string

	// Scope is the scope of the sender, and Epoch its fencing epoch. Empty and 0: those of the greeting.
	Scope string
	Epoch uint64

	// Traceparent and Tracestate are the trace context, or empty.
	Traceparent, Tracestate string

	// Request is the serialized request. It must never change: the stream may still be sending it when Do has returned.
	Request []byte
}

// Answer is the end of an attempt that the participant answered.
type Answer struct {
	// Reply is the serialized reply, if Status is nil.
	Reply []byte

	// Status is the status unless it is OK.
	Status *status.Status

	// Trailers are the trailers, or nil if there are none.
	Trailers metadata.MD
}

// Params are what a stream needs.
type Params struct {
	// Greeting is the orchestrator's greeting. Open sets its largest message.
	Greeting *treatyv1.OrchestratorGreeting

	// MaxReplyBytes is the size of the largest reply.
	MaxReplyBytes int

	// Received is called for each message that arrives, if it isn't nil. It must not block.
	Received func()
}

// Stream is a stream of commands to one address of a participant. All methods may be called concurrently.
type Stream struct {
	stream   grpc.BidiStreamingClient[treatyv1.StreamCommandsRequest, treatyv1.StreamCommandsResponse]
	cancel   context.CancelFunc
	received func()
	window   int
	maxBytes int    // of a message with one command
	digest   string // of the participant's contracts

	// scope and epoch are those of the greeting. Commands of others need a participant that reads them of each command.
	scope  string
	epoch  uint64
	scopes bool // the participant does

	// draining is closed when no more commands are taken.
	draining chan struct{}

	// ended is closed when the stream has ended, and then err says why: nil if it ended well.
	ended chan struct{}
	err   error

	// wake has room for one signal to the sender.
	wake chan struct{}

	// receipts counts the messages that arrived.
	receipts atomic.Uint64

	// mu guards what follows.
	mu        sync.Mutex
	last      uint64           // the number of the last command
	queued    []*call          // that the sender hasn't taken yet
	waiting   map[uint64]*call // that have no answer yet, queued or sent
	cancelled []uint64         // numbers of commands to be cancelled
	closing   bool             // no more commands are taken
}

// queued is a command with what the sender needs beside it.
type queued struct {
	command  Command
	deadline time.Time
	number   uint64
}

// call is a command that waits for its answer. It is reused once it was answered.
type call struct {
	queued

	// sent and withdrawn are guarded by the stream's lock.
	sent, withdrawn bool

	result Result
	done   chan struct{} // has room for one
	timer  *time.Timer
}

var calls = sync.Pool{New: func() any {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	return &call{done: make(chan struct{}, 1), timer: timer}
}}

// recycle lets a call be reused whose result is there. Nothing else holds it then: the sender holds copies.
func (c *call) recycle() Result {
	result := c.result
	c.command, c.result = Command{}, Result{}
	c.sent, c.withdrawn = false, false
	c.timer.Stop()
	calls.Put(c)
	return result
}

// Open opens a stream and waits for the participant's greeting until ctx ends. The stream itself ends when lasting
// ends. An error has gRPC's status: UNIMPLEMENTED if the participant, or somebody on the way, serves no such streams.
func Open(ctx, lasting context.Context, conn grpc.ClientConnInterface, params Params) (*Stream, error) {
	streamCtx, cancel := context.WithCancel(lasting)
	detach := context.AfterFunc(ctx, cancel)
	limit := params.MaxReplyBytes + answerBytes
	stream, err := treatyv1.NewParticipantServiceClient(conn).StreamCommands(streamCtx,
		grpc.MaxCallRecvMsgSize(limit))
	if err != nil {
		cancel()
		return nil, err
	}
	greeting := params.Greeting
	greeting.MaxMessageBytes = int64(limit)
	first, err := greet(stream, greeting)
	if err != nil {
		cancel()
		return nil, err
	}
	if !detach() {
		cancel()
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	s := &Stream{
		stream: stream, cancel: cancel, received: params.Received,
		window: int(first.GetWindow()), maxBytes: int(first.GetMaxMessageBytes()), digest: first.GetContractsDigest(),
		draining: make(chan struct{}), ended: make(chan struct{}), wake: make(chan struct{}, 1),
		waiting: make(map[uint64]*call),
		scope:   greeting.GetScope(), epoch: greeting.GetEpoch(), scopes: first.GetCommandScopes(),
	}
	go s.send()
	go s.receive()
	return s, nil
}

// greet sends the orchestrator's greeting and returns the participant's.
func greet(
	stream grpc.BidiStreamingClient[treatyv1.StreamCommandsRequest, treatyv1.StreamCommandsResponse],
	greeting *treatyv1.OrchestratorGreeting,
) (*treatyv1.ParticipantGreeting, error) {
	err := stream.Send(&treatyv1.StreamCommandsRequest{Greeting: greeting})
	if err != nil && !errors.Is(err, io.EOF) { // after io.EOF, Recv says why
		return nil, err
	}
	first, err := stream.Recv()
	switch {
	case errors.Is(err, io.EOF), err == nil && first.GetGreeting() == nil:
		return nil, ErrNoGreeting
	case err != nil:
		return nil, err
	}
	return first.GetGreeting(), nil
}

// size returns at least the size of a command in a message.
func (c *Command) size() int {
	return commandBytes + len(c.Method) + len(c.ID) + len(c.RequestDigest) + len(c.Scope) + len(c.Traceparent) +
		len(c.Tracestate) + len(c.Request)
}

// Result is what became of a command.
type Result struct {
	// Sent says whether the command was sent. Otherwise it was certainly not executed and never will be.
	Sent bool

	// Answer is the participant's answer. It counts if Sent is set and Err is nil.
	Answer Answer

	// Err has the status of a command that has no answer: UNAVAILABLE if the stream has ended, and DEADLINE_EXCEEDED or
	// CANCELLED if the caller's wait has. It is nil if the stream doesn't take the command, which can be sent in
	// another way then.
	Err error

	// Silent says that the command's deadline passed and nothing at all arrived on the stream since it was sent.
	Silent bool
}

// Do sends a command and waits for its answer, until ctx ends or a time has passed, which is the command's, too. If
// there is none by then, the participant is told that nobody waits any more. The stream doesn't take commands that are
// too large, more than the participant allows at a time, any of another scope or epoch than the greeting's if the
// participant doesn't read them, and any once it is to end.
func (s *Stream) Do(ctx context.Context, timeout time.Duration, command *Command) Result {
	if command.size() > s.maxBytes || !s.scopes && !s.greeted(command) {
		return Result{}
	}
	c := calls.Get().(*call) //nolint:forcetypeassert // The pool has no others.
	c.command, c.deadline = *command, time.Now().Add(timeout)
	if s.greeted(command) {
		c.command.Scope, c.command.Epoch = "", 0 // which the participant knows
	}
	receipts := s.receipts.Load()
	s.mu.Lock()
	if s.closing || len(s.waiting) >= s.window {
		s.mu.Unlock()
		return c.recycle()
	}
	s.last++
	c.number = s.last
	s.waiting[c.number] = c
	s.queued = append(s.queued, c)
	s.mu.Unlock()
	s.signal()
	c.timer.Reset(timeout)
	select {
	case <-c.done:
		return c.recycle()
	case <-ctx.Done():
		return s.withdraw(c, status.FromContextError(ctx.Err()), receipts)
	case <-c.timer.C:
		return s.withdraw(c, errTimeout, receipts)
	}
}

// errTimeout is what became of a command that isn't answered in time.
var errTimeout = status.New(codes.DeadlineExceeded, "the participant hasn't answered in time")

// withdraw gives up waiting for an answer.
func (s *Stream) withdraw(c *call, cause *status.Status, receipts uint64) Result {
	c.timer.Stop()
	s.mu.Lock()
	if _, waits := s.waiting[c.number]; !waits {
		s.mu.Unlock()
		<-c.done // it is being answered
		return c.recycle()
	}
	delete(s.waiting, c.number)
	c.withdrawn = true
	sent := c.sent
	if sent {
		s.cancelled = append(s.cancelled, c.number)
	}
	s.mu.Unlock()
	s.signal()
	return Result{
		Sent: sent, Err: cause.Err(),
		Silent: sent && cause.Code() == codes.DeadlineExceeded && s.receipts.Load() == receipts,
	}
}

// Drain takes no more commands, not even those that aren't sent yet, and lets the stream end when all others were
// answered.
func (s *Stream) Drain() {
	s.mu.Lock()
	s.close()
	unsent := s.takeUnsent()
	s.mu.Unlock()
	for _, c := range unsent {
		c.end(Result{})
	}
	s.signal()
}

// close takes no more commands. The caller holds the lock.
func (s *Stream) close() {
	if !s.closing {
		s.closing = true
		close(s.draining)
	}
}

// takeUnsent returns the commands that aren't sent yet, which won't be. The caller holds the lock.
func (s *Stream) takeUnsent() (unsent []*call) {
	for _, c := range s.queued {
		if !c.withdrawn {
			delete(s.waiting, c.number)
			unsent = append(unsent, c)
		}
	}
	s.queued = nil
	return unsent
}

// greeted returns whether a command has the scope and the epoch of the greeting.
func (s *Stream) greeted(command *Command) bool {
	return command.Epoch == 0 || command.Scope == s.scope && command.Epoch == s.epoch
}

// ContractsDigest returns the digest of the contracts of the participant at the other end, or empty if it didn't say.
func (s *Stream) ContractsDigest() string { return s.digest }

// Draining returns a channel that is closed when the stream takes no more commands: Drain was called, the participant
// wants the stream to end, or it has ended. In the last case, the channel of Ended is closed before.
func (s *Stream) Draining() <-chan struct{} { return s.draining }

// Ended returns a channel that is closed when the stream has ended.
func (s *Stream) Ended() <-chan struct{} { return s.ended }

// Err returns why the stream has ended, or nil if it ended well. Call it after Ended.
func (s *Stream) Err() error { return s.err }

// signal wakes the sender.
func (s *Stream) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// end tells the caller of Do.
func (c *call) end(result Result) {
	c.result = result
	c.done <- struct{}{}
}

// receive reads answers until the stream ends.
func (s *Stream) receive() {
	var err error
	for {
		var message *treatyv1.StreamCommandsResponse
		if message, err = s.stream.Recv(); err != nil {
			break
		}
		s.receipts.Add(1)
		if s.received != nil {
			s.received()
		}
		s.answered(message.GetAnswers())
		if message.GetEnding() {
			s.Drain()
		}
	}
	s.finish(err)
}

// answered passes answers on to those who wait for them. An answer to a command that nobody waits for is left out.
func (s *Stream) answered(answers []*treatyv1.StreamedAnswer) {
	calls := make([]*call, len(answers))
	s.mu.Lock()
	for i, answer := range answers {
		if c, ok := s.waiting[answer.GetNumber()]; ok && c.sent {
			calls[i] = c
			delete(s.waiting, c.number)
		}
	}
	last := s.closing && len(s.waiting) == 0
	s.mu.Unlock()
	if last {
		s.signal()
	}
	for i, answer := range answers {
		if calls[i] != nil {
			calls[i].end(Result{Sent: true, Answer: answerOf(answer)})
		}
	}
}

func answerOf(message *treatyv1.StreamedAnswer) Answer {
	answer := Answer{Reply: message.GetReply()}
	if failure := message.GetFailure(); failure != nil && failure.GetCode() != int32(codes.OK) {
		answer.Reply, answer.Status = nil, statusOf(failure)
	}
	if trailers := message.GetTrailers(); len(trailers) > 0 {
		answer.Trailers = make(metadata.MD, len(trailers))
		for _, t := range trailers {
			answer.Trailers[t.GetKey()] = append(answer.Trailers[t.GetKey()], string(t.GetValue()))
		}
	}
	return answer
}

// finish ends all calls when the stream has ended.
func (s *Stream) finish(err error) {
	if errors.Is(err, io.EOF) {
		err = nil
	}
	s.mu.Lock()
	s.err = err
	close(s.ended) // before draining is closed, so that who waits for that finds out why
	s.close()
	unsent := s.takeUnsent()
	sent := s.waiting
	s.waiting = make(map[uint64]*call)
	s.mu.Unlock()
	s.cancel()
	s.signal()
	for _, c := range unsent {
		c.end(Result{})
	}
	if len(sent) == 0 {
		return
	}
	// Its code is that of a connection that breaks, whatever the stream's is: nobody has said anything about a command.
	cut := status.Errorf(codes.Unavailable, "the stream of commands ended before the answer: %s", reasonOf(err))
	for _, c := range sent {
		c.end(Result{Sent: true, Err: cut})
	}
}

func reasonOf(err error) string {
	if err == nil {
		return "the participant ended it"
	}
	st := status.Convert(err)
	return fmt.Sprintf("%s: %s", st.Code(), st.Message())
}
