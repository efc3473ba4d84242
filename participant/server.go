package participant

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc/filters"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
)

// Server is a gRPC server that is set up for a participant: command metadata in the context, recovery of panics, health,
// reflection, limits, and tracing when a tracer provider is set. It is a [grpc.ServiceRegistrar]; register services
// before Serve. All methods may be called concurrently.
type Server struct {
	grpc     *grpc.Server
	health   *health.Server
	listener net.Listener
	options  Options

	stopping context.Context
	stop     context.CancelFunc
}

var _ grpc.ServiceRegistrar = (*Server)(nil)

// NewServer listens on the options' address and returns a server that is ready for services to be registered. Call
// [Telemetry] before it: whether calls are traced is decided here. It returns an error that names the setting when the
// address is taken or malformed, a TLS file is no good, or the settings would speak plaintext where others can listen
// (ErrPlaintext).
func NewServer(options Options) (*Server, error) {
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
		return nil, fmt.Errorf("listening on %s: the port is in use: stop the other process or choose another port with --listen", options.Listen)
	}
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", options.Listen, err)
	}
	if options.Insecure {
		options.Logger.Warn("plaintext: anybody on the way can read, change and send commands", "address", listener.Addr().String())
	}
	s := &Server{health: health.NewServer(), listener: listener, options: options}
	s.stopping, s.stop = context.WithCancel(context.Background())
	s.grpc = grpc.NewServer(s.serverOptions(grpc.Creds(creds))...)
	healthgrpc.RegisterHealthServer(s.grpc, s.health)
	reflection.Register(s.grpc)
	return s, nil
}

func (s *Server) serverOptions(more ...grpc.ServerOption) []grpc.ServerOption {
	guard := &guard{log: s.options.Logger, stopping: s.stopping}
	options := append(more,
		grpc.ChainUnaryInterceptor(guard.unary),
		grpc.ChainStreamInterceptor(guard.stream),
		grpc.MaxRecvMsgSize(s.options.MaxMessageBytes),
		grpc.MaxSendMsgSize(s.options.MaxMessageBytes),
		grpc.MaxConcurrentStreams(s.options.MaxConcurrentStreams),
		grpc.MaxHeaderListSize(16<<10),
		grpc.ConnectionTimeout(10*time.Second),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute, Timeout: 20 * time.Second}),
	)
	// The stats handler costs more than the call it watches, so it stays out when nobody would see the spans.
	if tracing() {
		options = append(options, grpc.StatsHandler(otelgrpc.NewServerHandler(otelgrpc.WithFilter(filters.Not(filters.HealthCheck())))))
	}
	return options
}

// RegisterService registers a service, as the generated Register functions do. Call it before Serve.
func (s *Server) RegisterService(desc *grpc.ServiceDesc, impl any) {
	s.grpc.RegisterService(desc, impl)
	s.health.SetServingStatus(desc.ServiceName, healthgrpc.HealthCheckResponse_SERVING)
}

// Addr returns the address that the server listens on, with the port that was chosen.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Serve answers calls until ctx ends. Then health says NOT_SERVING, no call is taken any more, and those under way get
// StopTimeout to end; what is still running after that is cut off, which its caller sees as UNAVAILABLE. It returns nil after
// such a stop, whether or not calls were cut off, and an error when the server failed by itself. Call it once.
func (s *Server) Serve(ctx context.Context) error {
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
		s.options.Logger.Warn("cutting off calls that didn't end in time", "timeout", s.options.StopTimeout)
		s.grpc.Stop()
		<-stopped
	}
	<-served //nolint:errcheck // it was stopped
	return nil
}

// SignalContext returns a context that ends at the first SIGTERM or SIGINT. A second signal ends the process at once.
func SignalContext() (context.Context, context.CancelFunc) {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, cancel)
	return ctx, cancel
}
