package server

import (
	"cmp"
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
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/incoming"
	"github.com/treatyhq/treaty/orchestrator/access"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/audit"
	"github.com/treatyhq/treaty/orchestrator/internal/authn"
	"github.com/treatyhq/treaty/orchestrator/internal/quota"
	"github.com/treatyhq/treaty/orchestrator/internal/rawcodec"
	"github.com/treatyhq/treaty/orchestrator/internal/telemetry"
)

// defaultMaxMessageBytes is the default limit of a request, in bytes.
const defaultMaxMessageBytes = 4 << 20

const (
	// maxStreams limits the calls of one connection. Further calls wait at the client.
	maxStreams = 4096

	// maxHeaderBytes limits the metadata of a call.
	maxHeaderBytes = 64 << 10

	// tokenCheck is how often the tokens of open calls are verified again by default.
	tokenCheck = 30 * time.Second

	// handshakeTimeout limits how long a connection may take to be established.
	handshakeTimeout = 20 * time.Second

	// minPingInterval is the shortest time between a client's keepalive pings. A client that pings more often is
	// disconnected.
	minPingInterval = 10 * time.Second

	// idlePing is how long a connection may be silent before the client is pinged, to detect a broken connection.
	idlePing = 2 * time.Minute

	// connectionGrace is the default of Config.ConnectionGrace. It is longer than a call of package client takes.
	connectionGrace = 2 * time.Minute

	// closeGrace is how long Close waits for the last replies to reach their callers.
	closeGrace = 500 * time.Millisecond
)

// Config configures a Server.
type Config struct {
	// Engine runs the sagas.
	Engine Engine

	// Store has the lists, records and events.
	Store Store

	// Catalog has the contracts.
	Catalog *contract.Catalog

	// Name is the orchestrator's name, from which the ids of sagas are derived.
	Name string

	// Definitions names the saga definitions that have code. All definitions of a service must have code.
	Definitions []string

	// Telemetry creates the anchors of traces. Optional.
	Telemetry *telemetry.Telemetry

	// Logger receives failures and, at debug level, each call. The default is slog.Default().
	Logger *slog.Logger

	// Identities are those of participants, in their certificates, by the services that they serve. If a participant
	// has identities, only callers with one of them complete its steps. Anybody completes those of the others.
	Identities map[string][]string

	// Parents are the identities, in their certificates, of the orchestrators whose sagas may have children here.
	// caller.Any is everybody. The default is everybody with a verified certificate, and callers on this machine.
	Parents []string

	// Tokens verifies the bearer tokens of calls. Tokens count for nothing without it.
	Tokens access.TokenVerifier

	// TokenCheck is how often the token of an open call is verified again. The default is 30 seconds.
	TokenCheck time.Duration

	// Authorizer decides who may do what. Everybody may do everything without it.
	Authorizer access.Authorizer

	// Exposed says that other machines can reach the API. Then nobody completes the steps of a participant without
	// identities, and nobody is believed as a parent's orchestrator without Parents, unless an Authorizer decides.
	Exposed bool

	// Participants returns what is known of the participants. Optional.
	Participants func() []*treatyv1.Participant

	// Audit has who did what. Nothing is audited without it.
	Audit *audit.Log

	// TLS secures connections. Connections aren't encrypted without it.
	TLS *tls.Config

	// Options are added to those of the gRPC server. Their interceptors run first. They can't change what the server
	// sets itself.
	Options []grpc.ServerOption

	// MaxMessageBytes limits a request, in bytes. The default is 4 MiB.
	MaxMessageBytes int

	// ConnectionAge is after how long a connection is closed, a tenth more or less. 0 means never.
	ConnectionAge time.Duration

	// ConnectionGrace is how long the calls of such a connection may go on. The default is 2 minutes.
	ConnectionGrace time.Duration

	// EventLimit is how many events may be stored; gaps between their positions count. 0 means any number.
	EventLimit int

	// NoReflection and NoChannelz leave out gRPC's services of these names.
	NoReflection, NoChannelz bool

	// CallerStarts is how many sagas one caller may start per second. 0 means any number.
	CallerStarts float64

	// Quota limits what callers hold: streams, and bytes that wait until they are read.
	Quota quota.Limits
}

// Server serves the orchestrator's API. Its methods are safe for concurrent use.
type Server struct {
	treatyv1.UnimplementedSagaServiceServer
	treatyv1.UnimplementedEventServiceServer

	name         string
	engine       Engine
	store        Store
	catalog      *contract.Catalog
	participants func() []*treatyv1.Participant
	definitions  map[string]*definition
	telemetry    *telemetry.Telemetry
	logger       *slog.Logger
	identities   map[string][]string
	parents      []string
	callers      *authn.Authenticator
	authorizer   access.Authorizer
	tokenCheck   time.Duration
	audit        *audit.Log      // nil: none
	strict       bool            // exposed, and without an authorizer
	asks         map[string]rule // by the full name of the method, with the slash before it

	grpc     *grpc.Server
	health   *health.Server
	services []string

	quota      *quota.Quota
	eventLimit int
	consumers  consumers
	startRates startRates
	scopes     scopes
	held       atomic.Int64 // the calls of parents that wait for their children

	warned      sync.Map // callers that aren't believed as parents' orchestrators, and damaged sagas
	warnedCount atomic.Int64

	stopping chan struct{} // closed when draining begins
	stop     sync.Once
	idle     chan struct{} // closed when no call is in flight
}

// New returns a server. Its health is NOT_SERVING until SetReady. It returns the error of Check when a saga service
// can't be served.
func New(config Config) (*Server, error) {
	services, err := served(config.Catalog, config.Definitions)
	if err != nil {
		return nil, fmt.Errorf("setting up the API: %w", err)
	}
	s := &Server{
		name:         config.Name,
		engine:       config.Engine,
		store:        config.Store,
		catalog:      config.Catalog,
		participants: config.Participants,
		definitions:  make(map[string]*definition),
		telemetry:    config.Telemetry,
		logger:       config.Logger,
		identities:   config.Identities,
		parents:      config.Parents,
		callers: authn.New(authn.Params{
			Tokens: config.Tokens, TrustLoopback: config.TLS == nil && config.Authorizer == nil,
		}),
		authorizer: config.Authorizer,
		tokenCheck: cmp.Or(config.TokenCheck, tokenCheck),
		audit:      config.Audit,
		strict:     config.Exposed && config.Authorizer == nil,
		health:     health.NewServer(),
		startRates: startRates{perSecond: config.CallerStarts},
		quota:      quota.New(config.Quota),
		eventLimit: config.EventLimit,
		scopes:     scopes{store: config.Store, logger: config.Logger},
		stopping:   make(chan struct{}),
		idle:       make(chan struct{}),
	}
	if s.logger == nil {
		s.logger = slog.Default()
		s.scopes.logger = s.logger
	}
	s.grpc = grpc.NewServer(s.options(config)...)
	for _, service := range services {
		s.register(service)
		for _, d := range service.definitions {
			s.definitions[d.Definition] = d
		}
	}
	treatyv1.RegisterSagaServiceServer(registrar{s}, s)
	treatyv1.RegisterEventServiceServer(registrar{s}, s)
	incoming.RegisterParticipantService(registrar{s}, s.Services, childKeeper{s})
	healthv1.RegisterHealthServer(s.grpc, s.health)
	if !config.NoChannelz {
		channelz.RegisterChannelzServiceToServer(s.grpc)
	}
	if !config.NoReflection {
		reflection.Register(s.grpc)
	}
	s.asks = s.rules()
	if err := s.checkRules(); err != nil {
		return nil, fmt.Errorf("setting up the API: %w", err)
	}

	for name := range s.grpc.GetServiceInfo() {
		s.services = append(s.services, name)
		s.health.SetServingStatus(name, healthv1.HealthCheckResponse_NOT_SERVING)
	}
	slices.Sort(s.services)
	s.health.SetServingStatus("", healthv1.HealthCheckResponse_NOT_SERVING)
	s.health.SetServingStatus(LiveService, healthv1.HealthCheckResponse_SERVING)
	return s, nil
}

func (s *Server) options(config Config) []grpc.ServerOption {
	if config.MaxMessageBytes <= 0 {
		config.MaxMessageBytes = defaultMaxMessageBytes
	}
	// Replies are held around the interceptors of config.Options, so that those see messages.
	options := append([]grpc.ServerOption{
		grpc.ChainUnaryInterceptor(s.authenticateUnary, s.holdReply),
		grpc.ChainStreamInterceptor(s.authenticateStream, s.holdStream),
	}, config.Options...)
	log := &handshakes{logger: s.logger}
	refused := func(from net.Addr, cause error) {
		log.refused(from, cause)
		if config.Audit != nil {
			config.Audit.HandshakeRefused(from, cause)
		}
	}
	return append(options,
		grpc.ForceServerCodecV2(rawcodec.New()),
		grpc.ChainUnaryInterceptor(s.interceptUnary),
		grpc.ChainStreamInterceptor(s.interceptStream),
		grpc.UnknownServiceHandler(unknownMethod),
		grpc.MaxRecvMsgSize(config.MaxMessageBytes),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.KeepaliveEnforcementPolicy(
			keepalive.EnforcementPolicy{MinTime: minPingInterval, PermitWithoutStream: true},
		),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: idlePing, MaxConnectionAge: config.ConnectionAge,
			MaxConnectionAgeGrace: cmp.Or(config.ConnectionGrace, connectionGrace),
		}),
		grpc.WaitForHandlers(true),
		grpc.Creds(expiring{authn.Credentials(config.TLS, refused)}),
	)
}

// Services returns the full names of the saga services, sorted.
func (s *Server) Services() []string {
	var names []string
	for name := range s.definitions {
		service, _, _ := strings.Cut(name, "/")
		names = append(names, service)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// SetUnready sets the health to NOT_SERVING, except for LiveService: the process answers, but drives no saga.
func (s *Server) SetUnready() {
	for _, name := range append([]string{""}, s.services...) {
		s.health.SetServingStatus(name, healthv1.HealthCheckResponse_NOT_SERVING)
	}
}

// LiveService is the service in health checks whose status says only that the process answers. A supervisor that
// restarts processes asks for this one. A restart doesn't help an orchestrator that drives no saga.
const LiveService = "live"

// SetReady sets the health to SERVING. It does nothing after Drain or Close.
func (s *Server) SetReady() {
	for _, name := range append([]string{""}, s.services...) {
		s.health.SetServingStatus(name, healthv1.HealthCheckResponse_SERVING)
	}
}

// Serve accepts connections on the listener until Drain or Close, which close it and make Serve return nil.
func (s *Server) Serve(listener net.Listener) error {
	watched := &watchedListener{Listener: listener, closed: s.quota.Disconnect}
	if err := s.grpc.Serve(watched); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serving on %s: %w", listener.Addr(), err)
	}
	return nil
}

// Drain sets the health to NOT_SERVING, accepts no new connections and calls, and ends streams. It returns when no call
// is in flight or ctx ends. Calls in flight continue after ctx ends.
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

// Close drains the server briefly, so that the last replies reach their callers, and then ends all calls.
func (s *Server) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeGrace)
	defer cancel()
	s.Drain(ctx)
	s.grpc.Stop()
}
