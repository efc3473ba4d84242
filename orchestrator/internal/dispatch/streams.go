package dispatch

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/incoming"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/commandstream"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/telemetry"
)

const (
	// openTimeout limits the opening of a stream.
	openTimeout = 5 * time.Second

	// initialStreamDelay and maxStreamDelay bound the wait before a stream is opened again that broke or couldn't be
	// opened. The wait doubles with each failure.
	initialStreamDelay = time.Second
	maxStreamDelay     = time.Minute

	// unservedStreamDelay is the same after an address has said that it serves no streams. Its build may change.
	unservedStreamDelay = 5 * time.Minute

	// lastingStream is how long a stream must have lasted for the next one to be opened at once.
	lastingStream = 10 * time.Second
)

// streams are the streams of commands to the addresses of one participant, one for each. As long as an address has
// none, commands are sent as unary calls, so that no address gets more than its part.
type streams struct {
	scope    func() *Self // one of those that are open, or nil
	logger   *slog.Logger
	target   string
	maxReply int
	services []string

	// wanted is closed when the participant has said that it serves streams.
	wanted     chan struct{}
	wantedOnce sync.Once

	// conns are the working connections. The slice is replaced when they change.
	mu    sync.Mutex
	conns atomic.Pointer[[]*subConn]
	next  atomic.Uint64
}

func newStreams(p Participant, scope func() *Self, maxReply int, logger *slog.Logger) *streams {
	s := &streams{
		scope: scope, logger: logger, target: p.Target, maxReply: maxReply, services: p.Services,
		wanted: make(chan struct{}),
	}
	s.conns.Store(new([]*subConn))
	return s
}

// want lets streams be opened.
func (s *streams) want() {
	if s != nil {
		s.wantedOnce.Do(func() { close(s.wanted) })
	}
}

// wants returns whether the participant has said that it serves streams.
func (s *streams) wants() bool {
	if s == nil {
		return false
	}
	select {
	case <-s.wanted:
		return true
	default:
		return false
	}
}

// add adds a working connection.
func (s *streams) add(c *subConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := append(slices.Clone(*s.conns.Load()), c)
	s.conns.Store(&next)
}

// remove removes a connection that is gone, or that takes no more calls.
func (s *streams) remove(c *subConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := slices.DeleteFunc(slices.Clone(*s.conns.Load()), func(other *subConn) bool { return other == c })
	s.conns.Store(&next)
}

// pick returns the next address that takes commands of a method, with its stream. It returns nil if one of the
// addresses has no stream. Addresses that say NOT_SERVING, that don't answer at all, or that have another contract of
// the method, are left out.
func (s *streams) pick(method string) (*subConn, *commandstream.Stream) {
	if s == nil {
		return nil, nil
	}
	conns := *s.conns.Load()
	var picked *subConn
	var stream *commandstream.Stream
	first := s.next.Add(1)
	for i := range uint64(len(conns)) {
		c := conns[(first+i)%uint64(len(conns))]
		if c.notServing.Load() || c.silent.Load() || c.blocks(method) {
			continue
		}
		open := c.stream.Load()
		if open == nil || c.unchecked() {
			return nil, nil
		}
		if picked == nil {
			picked, stream = c, open
		}
	}
	return picked, stream
}

// keepStream keeps a stream open until the connection is gone, or takes no more calls. Then the stream ends once its
// commands were answered. It calls tried when it has tried to open one.
func (c *subConn) keepStream(ctx context.Context, s *streams, tried func()) {
	select {
	case <-s.wanted:
	case <-ctx.Done():
		return
	}
	delay := initialStreamDelay
	for {
		began := time.Now()
		err := c.streamOnce(ctx, s, tried)
		tried()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			s.logger.Debug("a stream of commands has ended", "target", s.target, "error", err)
		}
		pause := delay
		switch {
		case status.Code(err) == codes.Unimplemented:
			s.logger.Info("an address of a participant serves no stream of commands, so they are sent one by one",
				"target", s.target)
			pause = unservedStreamDelay
		case time.Since(began) >= lastingStream:
			delay, pause = initialStreamDelay, 0
		default:
			delay = min(2*delay, maxStreamDelay)
		}
		if !sleep(ctx, pause) {
			return
		}
	}
}

// errNoScope says that no scope is open, so there is nothing to send.
var errNoScope = errors.New("no sagas are driven here now")

// streamOnce opens a stream and returns when it takes no more commands.
func (c *subConn) streamOnce(ctx context.Context, s *streams, tried func()) error {
	return c.withConn(func(conn grpc.ClientConnInterface) error {
		opening, cancel := context.WithTimeout(ctx, openTimeout)
		defer cancel()
		self := s.scope()
		if self == nil {
			return errNoScope
		}
		lasting := metadata.AppendToOutgoingContext(c.policy.ctx,
			wire.ScopeKey, self.Scope, wire.EpochKey, strconv.FormatUint(self.Epoch, 10))
		stream, err := commandstream.Open(opening, lasting, conn, commandstream.Params{
			Greeting: &treatyv1.OrchestratorGreeting{
				ProtocolVersion: protocolVersion, Scope: self.Scope, Epoch: self.Epoch,
				ContractsDigest: incoming.ContractsDigest(s.services),
			},
			MaxReplyBytes: s.maxReply, Received: c.heard,
		})
		if err != nil {
			return err
		}
		c.greeted(ctx, conn, stream.ContractsDigest())
		tried()
		c.stream.Store(stream)
		defer c.stream.CompareAndSwap(stream, nil)
		select {
		case <-ctx.Done():
			stream.Drain()
			return nil
		case <-stream.Draining():
		}
		select {
		case <-stream.Ended():
			return stream.Err()
		default:
			return nil // the participant wants a new stream
		}
	})
}

// heard takes note that something has arrived.
func (c *subConn) heard() {
	if c.silent.Load() {
		c.silent.Store(false)
	}
}

// stream sends a command on a stream, if there is one for it. It returns false if the command was not sent, and has to
// be sent as a unary call.
func (p *participant) stream(
	ctx context.Context, m *method, call *engine.Attempt, x *exchange, span telemetry.AttemptSpan,
) (sent bool, err error) {
	c, stream := p.streams.pick(call.Call.Method)
	if stream == nil || m.unaryOn.Load() == stream || call.Scope == "" {
		return false, nil
	}
	result := stream.Do(ctx, call.Call.Timeout, &commandstream.Command{
		Method: call.Call.Method, ID: wire.JoinStep(call.Saga, call.Step), Direction: directionOf(call.Direction),
		Attempt: call.Number, SagaStart: call.SagaStart, RequestDigest: call.Digest,
		Scope: call.Scope, Epoch: call.Epoch,
		Traceparent: span.Traceparent(), Tracestate: span.Tracestate(), Request: call.Request,
	})
	if result.Sent {
		x.sendings.Add(1)
	}
	switch {
	case result.Err != nil:
		if result.Silent {
			c.callEnded(balancer.DoneInfo{Err: result.Err, BytesSent: true})
		}
		return true, result.Err
	case !result.Sent:
		return false, nil
	}
	x.answered.Store(true)
	x.reply, x.trailer = result.Answer.Reply, result.Answer.Trailers
	if result.Answer.Status.Code() == codes.Unimplemented && x.mark() == wire.AnswerAttempt {
		// The participant serves only what its contract has as a command, and may have an older one.
		m.unaryOn.Store(stream)
		x.reset()
		return false, nil
	}
	return true, result.Answer.Status.Err()
}

func directionOf(direction engine.Direction) treatyv1.StepDirection {
	if direction == engine.Compensation {
		return treatyv1.StepDirection_STEP_DIRECTION_COMPENSATION
	}
	return treatyv1.StepDirection_STEP_DIRECTION_ACTION
}

// reset forgets a sending that certainly had no effect.
func (x *exchange) reset() {
	x.sendings.Store(0)
	x.answered.Store(false)
	x.reply, x.trailer = nil, metadata.MD(nil)
}
