package participant

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	"github.com/treatyhq/treaty/internal/heapfloor"
	"github.com/treatyhq/treaty/internal/incoming"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/participant/internal/commandstream"
)

// Server is a gRPC server configured for a participant: it has the interceptors of this package, health, reflection,
// limits, and tracing if the process has set a tracer provider. It is a [grpc.ServiceRegistrar]; register services
// before Serve. All methods may be called concurrently.
type Server struct {
	grpc     *grpc.Server
	health   *health.Server
	listener net.Listener
	options  Options
	guard    *guard
	commands *commands // nil: commands are unary calls only

	stopping context.Context
	stop     context.CancelFunc
}

var _ grpc.ServiceRegistrar = (*Server)(nil)

// NewServer listens on the options' address and returns a server to register services with. Calls are only traced if
// OpenTelemetry's tracer provider was set before. What isn't sampled then goes around the tracing, unless a meter
// provider was set before, too: its metrics cover every call.
//
// More server options may add to the server or change its limits: NewServer applies its own first. Interceptors in them
// run inside those of this package, unless they are set with [grpc.UnaryInterceptor] or [grpc.StreamInterceptor]: gRPC
// runs those first, also for callers that aren't believed. Use the functions with Chain in their names, or better
// Options.Interceptors: with more server options, in which an interceptor may hide, commands are unary calls, unless
// Options.CommandStream says otherwise. Transport credentials can't be changed this way; they always follow from
// options.
//
// If the address is malformed or in use, or a TLS file is invalid, the error names it. If the options would allow
// plaintext on an address that other machines can reach, the error is ErrPlaintext.
func NewServer(options Options, more ...grpc.ServerOption) (*Server, error) {
	options.setDefaults()
	if err := options.checkTransport(); err != nil {
		return nil, err
	}
	creds, err := options.credentials()
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", options.Listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("listening on %s: the port is in use: stop the other process or choose another port",
			options.Listen)
	}
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", options.Listen, err)
	}
	if options.Insecure {
		options.Logger.Warn("plaintext: anybody on the network can read, change and send commands",
			"address", listener.Addr().String())
	}
	s := &Server{
		health: health.NewServer(), listener: listener, options: options,
		guard: newGuard(options.Logger, []Trust{options.trust()}, options.MaxMessageBytes),
	}
	s.stopping, s.stop = context.WithCancel(context.Background())
	var serveCommands incoming.ServeCommands
	if options.CommandStream.on(len(more)) {
		s.commands = newCommands(s.guard, &options)
		serveCommands = s.commands.server.Serve
	}
	last := []grpc.ServerOption{grpc.Creds(creds)}
	if s.commands != nil {
		// A message with answers is larger than the reply in it. The interceptors limit the others.
		last = append(last, grpc.MaxSendMsgSize(commandstream.MaxSendBytes(options.MaxMessageBytes)))
	}
	s.grpc = grpc.NewServer(slices.Concat(s.serverOptions(), more, last)...)
	healthgrpc.RegisterHealthServer(s.grpc, s.health)
	reflection.Register(s.grpc)
	incoming.RegisterStreamingParticipantService(s.grpc, s.services, serveCommands, adapt(options.Keepers)...)
	return s, nil
}

// services returns the full names of the services served.
func (s *Server) services() []string { return slices.Collect(maps.Keys(s.grpc.GetServiceInfo())) }

// unknownMethod answers a call of a method that isn't served. The mark says that it is the participant who says so.
func unknownMethod(_ any, stream grpc.ServerStream) error {
	stream.SetTrailer(metadata.Pairs(wire.AnswerKey, wire.AnswerAttempt))
	method, _ := grpc.MethodFromServerStream(stream)
	return status.Errorf(codes.Unimplemented, "this participant doesn't serve the method %.200s", method)
}

func (s *Server) serverOptions() []grpc.ServerOption {
	options := []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(s.guard.unary),
		grpc.ChainUnaryInterceptor(s.options.Interceptors...),
		grpc.ChainStreamInterceptor(s.guard.stream, s.endHealthWatches),
		grpc.UnknownServiceHandler(unknownMethod),
		grpc.MaxRecvMsgSize(s.options.maxRequestBytes()),
		grpc.MaxSendMsgSize(s.options.MaxMessageBytes),
		grpc.MaxConcurrentStreams(s.options.MaxConcurrentStreams),
		grpc.MaxHeaderListSize(16 << 10),
		grpc.ConnectionTimeout(10 * time.Second),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second,
			PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute, Timeout: 20 * time.Second}),
	}
	if s.commands != nil {
		options = append([]grpc.ServerOption{
			grpc.ChainUnaryInterceptor(s.limitReply), grpc.ChainStreamInterceptor(s.limitMessages),
		}, options...)
	}
	if handler := newStatsHandler(); handler != nil {
		options = append(options, grpc.StatsHandler(handler))
	}
	return options
}

// endHealthWatches ends the streams of clients that watch the server's health when the server stops. They would
// otherwise delay the stop.
func (s *Server) endHealthWatches(
	server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler,
) error {
	if !strings.HasPrefix(info.FullMethod, "/grpc.health.v1.") {
		return handler(server, stream)
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	defer context.AfterFunc(s.stopping, cancel)()
	return handler(server, &endingStream{ServerStream: stream, ctx: ctx})
}

// endingStream is a stream with another context.
type endingStream struct {
	grpc.ServerStream

	ctx context.Context
}

// Context returns the context that ends the stream.
func (s *endingStream) Context() context.Context { return s.ctx }

// RegisterService registers a service. The generated Register functions call it. Call it before Serve.
func (s *Server) RegisterService(desc *grpc.ServiceDesc, impl any) {
	s.grpc.RegisterService(desc, impl)
	s.health.SetServingStatus(desc.ServiceName, healthgrpc.HealthCheckResponse_SERVING)
	if s.commands != nil {
		s.commands.register(desc, impl)
	}
}

// Addr returns the address that the server listens on, with the actual port.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Serve serves calls until ctx ends. Then the server's health becomes NOT_SERVING, new calls are refused, and calls in
// flight have StopTimeout to finish. Calls that are still running after that are aborted, and their callers receive
// UNAVAILABLE. Serve then returns nil. It returns an error if the server failed on its own. Call it once.
func (s *Server) Serve(ctx context.Context) error {
	defer heapfloor.Hold(s.options.HeapFloor)()
	if s.commands != nil {
		defer s.commands.server.Close()
	}
	served := make(chan error, 1)
	go func() { served <- s.grpc.Serve(s.listener) }()
	s.options.Logger.LogAttrs(ctx, slog.LevelInfo, "listening", slog.String("address", s.Addr().String()))
	select {
	case err := <-served:
		return fmt.Errorf("serving on %s: %w", s.Addr(), err)
	case <-ctx.Done():
	}
	s.health.Shutdown()
	s.stop()
	if s.commands != nil {
		s.commands.server.Stop()
	}
	stopped := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(stopped)
	}()
	timeout := time.NewTimer(s.options.StopTimeout)
	defer timeout.Stop()
	select {
	case <-stopped:
	case <-timeout.C:
		s.options.Logger.Warn("aborting calls that did not finish in time", "timeout", s.options.StopTimeout)
		s.grpc.Stop()
		<-stopped
	}
	<-served //nolint:errcheck // The server was stopped.
	return nil
}
