package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	channelz "google.golang.org/grpc/channelz/service"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/rawcodec"
	"github.com/treatyhq/treaty/orchestrator/internal/telemetry"
)

// DefaultMaxMessageBytes bounds a request when nothing else is configured.
const DefaultMaxMessageBytes = 4 << 20

const (
	// maxStreams bounds the calls of one connection; further ones wait at the client.
	maxStreams = 4096

	// maxHeaderBytes bounds the metadata of a call.
	maxHeaderBytes = 64 << 10

	// handshakeTimeout bounds the set-up of a connection.
	handshakeTimeout = 20 * time.Second

	// minPingInterval is the shortest time between a client's keepalive pings; one that pings more often is cut off.
	minPingInterval = 10 * time.Second

	// idlePing is after how long without a sign of life a client is pinged, so that a vanished one is noticed.
	idlePing = 2 * time.Minute

	// closeGrace is how long a call that has been answered may take to reach its caller.
	closeGrace = 500 * time.Millisecond
)

// Config is what a Server is made of.
type Config struct {
	// Engine drives the sagas.
	Engine Engine

	// Store is read for lists and records.
	Store Store

	// Catalog knows the contracts.
	Catalog *contract.Catalog

	// Definitions names the saga definitions that have code. Each service that one of them belongs to is served, and
	// must have code for all its methods.
	Definitions []string

	// Telemetry makes the anchors of traces. Nil: none.
	Telemetry *telemetry.Telemetry

	// Logger is told of failures, and at debug level of each call. Nil: slog.Default().
	Logger *slog.Logger

	// TLS is how clients are spoken to. Nil: plaintext.
	TLS *tls.Config

	// MaxMessageBytes bounds a request. 0: DefaultMaxMessageBytes.
	MaxMessageBytes int
}

// Server serves the orchestrator's API. All methods may be called concurrently.
type Server struct {
	treatyv1.UnimplementedSagaServiceServer
	treatyv1.UnimplementedEventServiceServer

	engine      Engine
	store       Store
	catalog     *contract.Catalog
	definitions map[string]*definition
	telemetry   *telemetry.Telemetry
	logger      *slog.Logger

	grpc     *grpc.Server
	health   *health.Server
	services []string

	consumers consumers
	held      atomic.Int64 // calls of parents that wait for their children

	stopping chan struct{} // closed when streams are to end
	stop     sync.Once
	idle     chan struct{} // closed when no call is under way any more
}

// New returns a server that isn't ready: health says NOT_SERVING until SetReady. The error names each saga service that
// can't be served.
func New(config Config) (*Server, error) {
	services, err := served(config.Catalog, config.Definitions)
	if err != nil {
		return nil, fmt.Errorf("setting up the API: %w", err)
	}
	s := &Server{
		engine:      config.Engine,
		store:       config.Store,
		catalog:     config.Catalog,
		definitions: make(map[string]*definition),
		telemetry:   config.Telemetry,
		logger:      config.Logger,
		health:      health.NewServer(),
		stopping:    make(chan struct{}),
		idle:        make(chan struct{}),
	}
	if s.logger == nil {
		s.logger = slog.Default()
	}
	s.grpc = grpc.NewServer(s.options(config)...)
	for _, service := range services {
		s.register(service)
		for _, d := range service.definitions {
			s.definitions[d.Definition] = d
		}
	}
	treatyv1.RegisterSagaServiceServer(s.grpc, s)
	treatyv1.RegisterEventServiceServer(s.grpc, s)
	healthv1.RegisterHealthServer(s.grpc, s.health)
	channelz.RegisterChannelzServiceToServer(s.grpc)
	reflection.Register(s.grpc)

	for name := range s.grpc.GetServiceInfo() {
		s.services = append(s.services, name)
		s.health.SetServingStatus(name, healthv1.HealthCheckResponse_NOT_SERVING)
	}
	slices.Sort(s.services)
	s.health.SetServingStatus("", healthv1.HealthCheckResponse_NOT_SERVING)
	return s, nil
}

func (s *Server) options(config Config) []grpc.ServerOption {
	if config.MaxMessageBytes <= 0 {
		config.MaxMessageBytes = DefaultMaxMessageBytes
	}
	options := []grpc.ServerOption{
		grpc.ForceServerCodecV2(rawcodec.New()),
		grpc.UnaryInterceptor(s.interceptUnary),
		grpc.StreamInterceptor(s.interceptStream),
		grpc.MaxRecvMsgSize(config.MaxMessageBytes),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPingInterval, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: idlePing}),
		grpc.WaitForHandlers(true),
	}
	if config.TLS != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(config.TLS)))
	}
	return options
}

// Services returns the full names of the saga services that are served, sorted.
func (s *Server) Services() []string {
	var names []string
	for name := range s.definitions {
		service, _, _ := strings.Cut(name, "/")
		names = append(names, service)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// SetReady makes health say SERVING. It does nothing once draining began.
func (s *Server) SetReady() {
	for _, name := range append([]string{""}, s.services...) {
		s.health.SetServingStatus(name, healthv1.HealthCheckResponse_SERVING)
	}
}

// Serve answers calls on the listener, which it closes in the end, until Close. It returns nil then.
func (s *Server) Serve(listener net.Listener) error {
	if err := s.grpc.Serve(listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serving on %s: %w", listener.Addr(), err)
	}
	return nil
}

// Drain makes health say NOT_SERVING, takes no new connections and calls, and ends streams. It returns when no call is
// under way, or ctx ends.
func (s *Server) Drain(ctx context.Context) {
	s.stop.Do(func() {
		s.health.Shutdown()
		close(s.stopping)
		go func() {
			defer close(s.idle)
			s.grpc.GracefulStop()
		}()
	})
	select {
	case <-s.idle:
	case <-ctx.Done():
	}
}

// Close ends what is left: calls that have been answered get a moment to reach their callers.
func (s *Server) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeGrace)
	defer cancel()
	s.Drain(ctx)
	s.grpc.Stop()
}
