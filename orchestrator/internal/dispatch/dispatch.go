// Package dispatch calls participants: it keeps a connection to each, makes one gRPC call per attempt, says what the
// call came to, how long to wait before the next, and parks the commands of a participant that is down.
//
// It passes requests and replies through as the bytes that they are, never retries by itself, keeps nothing durable and
// decides nothing about a saga. Where participants are comes from its configuration, never from a request.
package dispatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc"

	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/telemetry"
)

var _ engine.Dispatcher = (*Dispatcher)(nil)

// Limits of a dispatcher that is configured with nothing else.
const (
	// DefaultMaxMessageBytes bounds a request and a reply.
	DefaultMaxMessageBytes = 4 << 20

	// DefaultBreakAfter is how many attempts in a row must find a participant unavailable until its breaker opens. One is
	// enough when there is no connection.
	DefaultBreakAfter = 5
)

// Config says who the participants are.
type Config struct {
	// Participants are called for the services that they name. No service may be named twice.
	Participants []Participant

	// Telemetry takes spans and metrics. Nil: none.
	Telemetry *telemetry.Telemetry

	// Logger is told what an operator must know: participants that go down and come back, and commands that nobody
	// serves. Nil: slog.Default().
	Logger *slog.Logger

	// Discovery is whether to learn what the participants serve, see [Dispatcher.Discover]; set it when a contract has a broadcast.
	Discovery bool

	// MaxMessageBytes bounds a request and a reply. 0: DefaultMaxMessageBytes.
	MaxMessageBytes int

	// BreakAfter is how many attempts in a row must find a participant unavailable until its breaker opens. 0:
	// DefaultBreakAfter.
	BreakAfter int

	// Rand returns random numbers in [0, 1) for jitter, and is called concurrently; for tests. Nil: math/rand/v2.
	Rand func() float64

	// DialOptions are added to those of every connection; for tests.
	DialOptions []grpc.DialOption
}

// Dispatcher calls participants. It implements [engine.Dispatcher]; all methods may be called concurrently.
type Dispatcher struct {
	telemetry       *telemetry.Telemetry
	logger          *slog.Logger
	rand            func() float64
	maxMessageBytes int

	// services maps a service's full name to who serves it. It never changes.
	services map[string]*participant

	participants []*participant

	// routes keeps the methods that were called; it is replaced when one is added, so reading takes no lock.
	routes atomic.Pointer[map[string]route]

	calls inFlight

	// discovery is nil when nobody asked for it.
	discovery *discovery
}

// route is where a method's calls go.
type route struct {
	// path is the method as gRPC wants it, with a leading slash.
	path string

	participant *participant
}

// New returns a dispatcher for the configured participants. A participant is connected to when it is first called; with
// Config.Discovery, at once, in the background. It fails on a configuration that can't work, and says which participant it is about.
func New(config Config) (*Dispatcher, error) {
	d := &Dispatcher{
		telemetry:       config.Telemetry,
		logger:          config.Logger,
		rand:            config.Rand,
		maxMessageBytes: config.MaxMessageBytes,
		services:        make(map[string]*participant),
	}
	if d.logger == nil {
		d.logger = slog.Default()
	}
	if d.rand == nil {
		d.rand = rand.Float64
	}
	if d.maxMessageBytes <= 0 {
		d.maxMessageBytes = DefaultMaxMessageBytes
	}
	if config.BreakAfter <= 0 {
		config.BreakAfter = DefaultBreakAfter
	}
	d.routes.Store(&map[string]route{})
	d.calls.init()
	for _, p := range config.Participants {
		if err := d.add(p, config); err != nil {
			return nil, errors.Join(err, d.Close(context.Background()))
		}
	}
	if config.Discovery {
		d.discovery = discover(d.participants, d.logger, d.rand)
	}
	return d, nil
}

func (d *Dispatcher) add(p Participant, config Config) error {
	if len(p.Services) == 0 {
		return fmt.Errorf("dispatch: participant %q serves nothing: list its services, e.g. acme.customer.v1.CustomerService", p.Target)
	}
	for _, service := range p.Services {
		if service == "" || strings.Contains(service, "/") {
			return fmt.Errorf("dispatch: participant %q: %q is no service name: write its full name, e.g. acme.customer.v1.CustomerService", p.Target, service)
		}
		if other, ok := d.services[service]; ok {
			return fmt.Errorf("dispatch: %s is served by %q and by %q: name one participant per service", service, other.target, p.Target)
		}
	}
	conn, err := dial(p, d.maxMessageBytes, config.DialOptions)
	if err != nil {
		return err
	}
	q := &participant{name: p.Services[0], target: p.Target, conn: conn}
	q.breaker = newBreaker(breakerParams{
		target:     p.Target,
		link:       conn,
		breakAfter: config.BreakAfter,
		telemetry:  d.telemetry,
		logger:     d.logger,
		rand:       d.rand,
	})
	d.participants = append(d.participants, q)
	for _, service := range p.Services {
		d.services[service] = q
	}
	return nil
}

// route returns where a method's calls go; false when nobody is configured for its service.
func (d *Dispatcher) route(method string) (route, bool) {
	routes := d.routes.Load()
	if r, ok := (*routes)[method]; ok {
		return r, true
	}
	service, _, _ := strings.Cut(method, "/")
	p, ok := d.services[service]
	if !ok {
		return route{}, false
	}
	r := route{path: "/" + method, participant: p}
	for {
		grown := make(map[string]route, len(*routes)+1)
		maps.Copy(grown, *routes)
		grown[method] = r
		if d.routes.CompareAndSwap(routes, &grown) {
			return r, true
		}
		routes = d.routes.Load()
	}
}

// routeTo returns where a method's calls go: those of a broadcast to the participant that is named, which needs no flag for the service that
// it was found to serve.
func (d *Dispatcher) routeTo(method, name string) (route, bool) {
	if name == "" {
		return d.route(method)
	}
	// Any of a participant's services leads to it, not its name alone: the order of the flags may change while a saga runs.
	p, ok := d.services[name]
	return route{path: "/" + method, participant: p}, ok
}

// Parked calls wake once the destination's participant may be called again, and returns true, when its breaker is open; else
// it returns false and never calls wake. cancel takes wake back; a wake that is under way at that moment may still come. Wakes come
// one after the other from one goroutine, so they must not block. After Close, wakes don't come any more.
func (d *Dispatcher) Parked(to engine.Destination, wake func()) (cancel func(), parked bool) {
	r, ok := d.routeTo(to.Method, to.Participant)
	if !ok {
		return nil, false
	}
	return r.participant.breaker.park(wake)
}

// Close waits until the calls under way have ended, or until ctx ends and they are cut off, and closes the connections.
// Attempts made from now on fail without reaching anybody. It returns ctx's error when calls were cut off.
func (d *Dispatcher) Close(ctx context.Context) error {
	var errs []error
	if cut := d.calls.drain(ctx); cut > 0 {
		errs = append(errs, fmt.Errorf("dispatch: closing: %d calls to participants were cut off: %w", cut, context.Cause(ctx)))
	}
	if d.discovery != nil {
		d.discovery.close()
	}
	for _, p := range d.participants {
		p.breaker.close()
		if err := p.conn.Close(); err != nil && !errors.Is(err, grpc.ErrClientConnClosing) { //nolint:staticcheck // it is what Close returns the second time
			errs = append(errs, fmt.Errorf("dispatch: closing the connection to %q: %w", p.target, err))
		}
	}
	return errors.Join(errs...)
}

// inFlight counts calls under way, so that closing can wait for them.
type inFlight struct {
	// n is the number of calls; draining adds nothing to it but makes enter fail.
	n        atomic.Int64
	draining atomic.Bool
	// idle has room for one signal that the last call ended.
	idle chan struct{}
}

func (f *inFlight) init() { f.idle = make(chan struct{}, 1) }

// enter returns false once draining began. Else the caller calls leave.
func (f *inFlight) enter() bool {
	f.n.Add(1)
	if f.draining.Load() {
		f.leave()
		return false
	}
	return true
}

func (f *inFlight) leave() {
	if f.n.Add(-1) == 0 && f.draining.Load() {
		select {
		case f.idle <- struct{}{}:
		default:
		}
	}
}

// drain returns how many calls are still under way when ctx ends, else 0.
func (f *inFlight) drain(ctx context.Context) int64 {
	f.draining.Store(true)
	for {
		n := f.n.Load()
		if n == 0 {
			return 0
		}
		select {
		case <-f.idle:
		case <-ctx.Done():
			return f.n.Load()
		}
	}
}

// closedMessage is what an attempt after Close fails with.
const closedMessage = "dispatch: the orchestrator is shutting down; the command was not sent"
