package commandstream

import (
	"context"
	"math/rand/v2"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"

	"github.com/treatyhq/treaty/internal/incoming"
)

const (
	// minMaxAge and maxMaxAge bound the age at which a stream is ended, so that commands move to the addresses that
	// were added since it was opened.
	minMaxAge = 15 * time.Minute
	maxMaxAge = 30 * time.Minute

	// greetingTimeout is how long a stream may wait for its greeting.
	greetingTimeout = 10 * time.Second

	// lingerTimeout is how long a stream that was asked to end waits for the orchestrator to close its side, once
	// everything was answered.
	lingerTimeout = 5 * time.Second
)

// Params configure a Server.
type Params struct {
	// Method returns the method with a full name, such as "acme.card.v1.CardService/ChangeAddress", or nil if it isn't
	// one whose commands are executed here.
	Method func(name string) *Method

	// Window is how many commands of a stream may be unanswered.
	Window int

	// MaxRequestBytes is the size of the largest message that the server receives, and MaxReplyBytes that of the
	// largest reply of a unary call.
	MaxRequestBytes, MaxReplyBytes int

	// Tracing makes the spans of commands. Nil: there are none.
	Tracing *Tracing

	// Durations records how long commands take. Nil: nobody wants to know.
	Durations *Durations
}

// MethodParams describe a method.
type MethodParams struct {
	// Path is the method's path, such as "/acme.card.v1.CardService/ChangeAddress".
	Path string

	// Service is the implementation of the service, Handle the generated handler, and Intercept the interceptor that it
	// is called with.
	Service   any
	Handle    grpc.MethodHandler
	Intercept grpc.UnaryServerInterceptor
}

// Method is a method whose commands are executed.
type Method struct {
	MethodParams

	start []trace.SpanStartOption
}

// NewMethod returns a method.
func NewMethod(params MethodParams) *Method {
	return &Method{MethodParams: params, start: startOptions(params.Path)}
}

// Server serves streams of commands. All methods may be called concurrently.
type Server struct {
	params   Params
	pool     pool
	stopping context.Context
	stop     context.CancelFunc

	// They are fields for tests.
	age, linger time.Duration
}

// NewServer returns a server. Call Close when it isn't needed any more.
func NewServer(params Params) *Server {
	s := &Server{params: params, linger: lingerTimeout}
	s.stopping, s.stop = context.WithCancel(context.Background())
	return s
}

// Stop asks the orchestrators to end all streams, now and in the future. It doesn't wait.
func (s *Server) Stop() { s.stop() }

// Close ends the goroutines that wait for commands. Those that execute one end afterwards.
func (s *Server) Close() {
	s.stop()
	s.pool.close()
}

// Serve serves one stream, from the greetings to its end. It implements incoming.ServeCommands.
func (s *Server) Serve(stream incoming.CommandStream, opening incoming.Opening) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	x := newSession(ctx, s, stream)
	defer x.end()
	return x.serve(opening)
}

// maxAge returns the age at which a new stream is ended.
func (s *Server) maxAge() time.Duration {
	if s.age > 0 {
		return s.age
	}
	return minMaxAge + rand.N(maxMaxAge-minMaxAge)
}
