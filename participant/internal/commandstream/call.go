package commandstream

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	encodingproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/incoming"
	"github.com/treatyhq/treaty/internal/wire"
)

// call is a command that is executed. It is the context of its handler, too, so that a command costs few allocations:
// what few handlers look at is made when it is looked at.
type call struct {
	session  *session
	method   *Method
	streamed *treatyv1.StreamedCommand
	command  incoming.Command
	deadline time.Time // zero: none
	began    time.Time // zero: nobody wants to know
	counted  bool      // guarded by the session: it takes a place of the window

	// inner is a context of package context with the deadline, once somebody waits for the end of the call.
	inner atomic.Pointer[innerContext]

	span atomic.Pointer[trace.Span]

	mu       sync.Mutex
	over     bool // cancelled, or the handler has returned
	answered bool // the trailers are fixed
	metadata metadata.MD
	trailer  metadata.MD

	answer treatyv1.StreamedAnswer
}

// innerContext is a context, and what cancels it.
type innerContext struct {
	context.Context

	cancel context.CancelFunc
}

// Deadline implements context.Context.
func (c *call) Deadline() (time.Time, bool) {
	if c.deadline.IsZero() {
		return c.session.ctx.Deadline()
	}
	return c.deadline, true
}

// Done implements context.Context.
func (c *call) Done() <-chan struct{} { return c.context().Done() }

// Err implements context.Context.
func (c *call) Err() error {
	inner := c.inner.Load()
	if inner == nil {
		c.mu.Lock()
		over := c.over
		c.mu.Unlock()
		if !over && c.session.ctx.Err() == nil && (c.deadline.IsZero() || time.Now().Before(c.deadline)) {
			return nil
		}
		inner = c.context() // so that Done is closed when Err isn't nil
	}
	return inner.Err()
}

// Value implements context.Context.
func (c *call) Value(key any) any {
	switch key {
	case callKey{}:
		return c
	case metadataKey:
		return c.incomingMetadata()
	case transportKey:
		return (*transport)(c)
	case spanKey:
		if tracing := c.session.server.params.Tracing; tracing != nil {
			return tracing.spanOf(c)
		}
	}
	if inner := c.inner.Load(); inner != nil {
		// Package context finds its own contexts this way, and then needs no goroutine for a child.
		return inner.Value(key)
	}
	return c.session.ctx.Value(key)
}

// context returns the inner context. It makes it if there is none.
func (c *call) context() *innerContext {
	if inner := c.inner.Load(); inner != nil {
		return inner
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if inner := c.inner.Load(); inner != nil {
		return inner
	}
	inner := &innerContext{}
	if c.deadline.IsZero() {
		inner.Context, inner.cancel = context.WithCancel(c.session.ctx)
	} else {
		inner.Context, inner.cancel = context.WithDeadline(c.session.ctx, c.deadline)
	}
	if c.over {
		inner.cancel()
	}
	c.inner.Store(inner)
	return inner
}

// cancel ends the context.
func (c *call) cancel() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	if inner := c.inner.Load(); inner != nil {
		inner.cancel()
	}
}

// incomingMetadata returns the metadata that a unary call would have.
func (c *call) incomingMetadata() metadata.MD {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.metadata != nil {
		return c.metadata
	}
	md := make(metadata.MD, len(c.session.metadata)+10)
	maps.Copy(md, c.session.metadata)
	c.command.AppendMetadata(md)
	if parent := c.streamed.GetTraceparent(); parent != "" {
		md[traceparentKey] = []string{parent}
		if state := c.streamed.GetTracestate(); state != "" {
			md[tracestateKey] = []string{state}
		}
	}
	c.metadata = md
	return md
}

// execute executes the command and queues its answer.
func (c *call) execute() {
	if c.session.server.params.Durations != nil {
		c.began = time.Now()
	}
	if tracing := c.session.server.params.Tracing; tracing != nil {
		tracing.start(c)
	}
	reply, err := c.method.Handle(c.method.Service, c, c.decode, c.method.Intercept)
	var data []byte
	if err == nil {
		data, err = encode(reply)
	}
	if err == nil && len(data) > c.session.server.params.MaxReplyBytes {
		err = tooLarge(len(data), c.session.server.params.MaxReplyBytes)
	}
	c.finish(data, err)
}

// abandoned answers a command whose handler has ended its goroutine.
func (c *call) abandoned() {
	c.finish(nil, status.Error(codes.Internal, "the handler has ended its goroutine"))
}

// decode reads the request.
func (c *call) decode(request any) error {
	data := mem.BufferSlice{mem.SliceBuffer(c.streamed.GetRequest())}
	if err := codec().Unmarshal(data, request); err != nil {
		return status.Errorf(codes.Internal, "grpc: failed to unmarshal the received message: %v", err)
	}
	return nil
}

func encode(reply any) ([]byte, error) {
	data, err := codec().Marshal(reply)
	if err != nil {
		return nil, status.Errorf(codes.Internal, "grpc: error while marshaling: %v", err)
	}
	defer data.Free()
	if len(data) == 1 {
		if buffer, ok := data[0].(mem.SliceBuffer); ok {
			return buffer, nil // not pooled
		}
	}
	return data.Materialize(), nil
}

// codec returns what unary calls are encoded with.
func codec() encoding.CodecV2 { return encoding.GetCodecV2(encodingproto.Name) }

// tooLarge returns the error that gRPC returns for a reply that is too large.
func tooLarge(size, limit int) error {
	return status.Errorf(codes.ResourceExhausted, "trying to send message larger than max (%d vs. %d)", size, limit)
}

// finish ends the call and queues its answer.
func (c *call) finish(reply []byte, err error) {
	c.mu.Lock()
	c.over, c.answered = true, true
	if inner := c.inner.Load(); inner != nil {
		inner.cancel()
	}
	trailer := c.trailer
	c.mu.Unlock()

	c.answer.Number = c.streamed.GetNumber()
	if err == nil {
		c.answer.Reply = reply
	} else {
		c.answer.Failure = failureOf(err)
	}
	if len(trailer) > 0 {
		c.answer.Trailers = trailersOf(trailer)
	}
	size := proto.Size(&c.answer)
	if limit := c.session.maxAnswer; size > limit {
		c.answer.Reply, c.answer.Failure = nil, failureOf(tooLarge(size, limit))
		if size = proto.Size(&c.answer); size > limit {
			c.answer.Trailers = nil
			size = proto.Size(&c.answer)
		}
	}
	if tracing := c.session.server.params.Tracing; tracing != nil {
		tracing.end(c)
	}
	if durations := c.session.server.params.Durations; durations != nil {
		durations.record(c)
	}
	c.session.queue(answer{call: c, message: &c.answer, size: size})
}

// failureOf returns the status of an error, as gRPC sends it.
func failureOf(err error) *treatyv1.Failure {
	st, ok := status.FromError(err)
	if !ok {
		st = status.FromContextError(err)
	}
	// A rune of a message is replaced if it is invalid.
	failure := &treatyv1.Failure{Code: int32(st.Code()), Message: string([]rune(st.Message()))}
	if failure.Details = st.Proto().GetDetails(); len(failure.Details) > 0 {
		if _, err := proto.Marshal(failure); err != nil {
			failure.Details = nil
		}
	}
	return failure
}

// trailersOf returns trailers as a stream carries them, sorted by key. Those that gRPC makes itself are left out, as it
// does for a unary call.
func trailersOf(md metadata.MD) []*treatyv1.Trailer {
	trailers := make([]*treatyv1.Trailer, 0, len(md))
	for _, key := range slices.Sorted(maps.Keys(md)) {
		if reserved(key) {
			continue
		}
		for _, value := range md[key] {
			trailers = append(trailers, &treatyv1.Trailer{Key: strings.ToValidUTF8(key, "?"), Value: []byte(value)})
		}
	}
	return trailers
}

// reserved returns whether gRPC doesn't let a handler set a key of trailers.
func reserved(key string) bool {
	switch key {
	case "content-type", "user-agent", "grpc-message-type", "grpc-encoding", "grpc-message", "grpc-status",
		"grpc-timeout", "te":
		return true
	default:
		return strings.HasPrefix(key, ":")
	}
}

// transport is a call as gRPC's functions for handlers see it.
type transport call

var _ grpc.ServerTransportStream = (*transport)(nil)

// Method implements grpc.ServerTransportStream.
func (t *transport) Method() string { return t.method.Path }

// SetHeader implements grpc.ServerTransportStream. An answer has no headers.
func (t *transport) SetHeader(metadata.MD) error { return nil }

// SendHeader implements grpc.ServerTransportStream. An answer has no headers.
func (t *transport) SendHeader(metadata.MD) error { return nil }

// errAnswered is returned to who sets a trailer too late.
var errAnswered = errors.New("the command was answered already")

// SetTrailer implements grpc.ServerTransportStream.
func (t *transport) SetTrailer(md metadata.MD) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.answered {
		return errAnswered
	}
	t.trailer = metadata.Join(t.trailer, md)
	return nil
}

// CommandFromContext returns the command that a handler is called for. It returns false if ctx isn't that of a command
// of a stream. Whoever sent it was believed when the stream was opened.
func CommandFromContext(ctx context.Context) (*incoming.Command, bool) {
	c, ok := ctx.Value(callKey{}).(*call)
	if !ok {
		return nil, false
	}
	return &c.command, true
}

const (
	traceparentKey = "traceparent"
	tracestateKey  = "tracestate"
)

// callKey is the key of a call in its context.
type callKey struct{}

// The keys under which gRPC and OpenTelemetry look for what is in the context of a unary call. They aren't exported.
// With them, the metadata is made only for handlers that read it.
var (
	metadataKey  = keyOf(func(ctx context.Context) { metadata.FromIncomingContext(ctx) })
	transportKey = keyOf(func(ctx context.Context) { grpc.ServerTransportStreamFromContext(ctx) })
	spanKey      = keyOf(func(ctx context.Context) { trace.SpanFromContext(ctx) })
)

// Supported returns whether gRPC and OpenTelemetry find in the context of a command what they look for. They don't if a
// later version looks in another way. Commands must then be unary calls.
func Supported() bool {
	c := &call{
		session: &session{ctx: context.Background(), server: &Server{params: Params{Tracing: &Tracing{}}}},
		method:  NewMethod(MethodParams{Path: "/s/m"}), command: incoming.Command{ID: "sagas/s/steps/1"},
	}
	parent := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}})
	span := trace.SpanFromContext(trace.ContextWithSpanContext(c.session.ctx, parent))
	c.span.Store(&span)
	md, _ := metadata.FromIncomingContext(c)
	method, _ := grpc.Method(c)
	return len(md[wire.CommandIDKey]) == 1 && method == c.method.Path &&
		trace.SpanContextFromContext(c).Equal(parent)
}

// keyOf returns the key for which a function asks a context.
func keyOf(ask func(context.Context)) any {
	finder := &keyFinder{Context: context.Background()}
	ask(finder)
	return finder.key
}

type keyFinder struct {
	context.Context

	key any
}

// Value implements context.Context.
func (f *keyFinder) Value(key any) any {
	f.key = key
	return nil
}

// metadataOf returns the metadata of a stream that its commands have in common: all but what each has itself.
func metadataOf(ctx context.Context) metadata.MD {
	md, _ := metadata.FromIncomingContext(ctx)
	maps.DeleteFunc(md, func(key string, _ []string) bool {
		return strings.HasPrefix(key, wire.KeyPrefix) || key == traceparentKey || key == tracestateKey
	})
	return md
}
