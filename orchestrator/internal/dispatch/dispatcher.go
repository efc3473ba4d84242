package dispatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/admission"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/inflight"
	"github.com/treatyhq/treaty/orchestrator/internal/telemetry"
)

var _ engine.Dispatcher = (*Dispatcher)(nil)

const (
	defaultMaxMessageBytes = 4 << 20
	defaultBreakAfter      = 5
)

// Config configures a Dispatcher.
type Config struct {
	// Participants are the participants to call. No service may be listed twice.
	Participants []Participant

	// Telemetry records spans and metrics. Nil records none.
	Telemetry *telemetry.Telemetry

	// Logger logs participants that go down and come back, and commands that no participant serves. Default
	// slog.Default().
	Logger *slog.Logger

	// Discovery asks participants which services they serve, for [Dispatcher.Discover]. Set it if a contract has a
	// broadcast.
	Discovery bool

	// Self is what participants are told about this orchestrator. Nil: they are told nothing, and are taken for plain
	// unless the memory or the configuration says otherwise.
	Self *Self

	// Memory remembers what is known about participants. Nil remembers nothing.
	Memory Memory

	// MaxMessageBytes limits the size of a request and of a reply. Default 4 MiB.
	MaxMessageBytes int

	// BreakAfter is how many calls in a row must end with UNAVAILABLE before the participant's breaker opens. It
	// opens at once when there is no connection. Default 5.
	BreakAfter int

	// Rand returns random numbers in [0, 1) for jitter, for tests. It must be safe for concurrent use. Default
	// math/rand/v2.
	Rand func() float64

	// DialOptions are added to those of every connection, for tests.
	DialOptions []grpc.DialOption
}

// Dispatcher calls participants. All methods may be called concurrently.
type Dispatcher struct {
	telemetry       *telemetry.Telemetry
	logger          *slog.Logger
	rand            func() float64
	maxMessageBytes int
	scope           string // of the epochs; empty if participants aren't told
	self            *Self  // nil if participants aren't told

	// services maps the full name of a service to the participant that serves it. It never changes.
	services map[string]*participant

	participants []*participant

	// routes caches the methods that were called. It is replaced when one is added, so that reading takes no lock.
	routes atomic.Pointer[map[string]route]

	calls *inflight.Counter

	// greeting ends when the dispatcher is closed, and with it the goroutines that ask participants what they are.
	greeting context.Context
	stop     context.CancelFunc
	greeters sync.WaitGroup

	// discovery is nil unless it was configured.
	discovery *discovery
}

// New returns a dispatcher for the configured participants. It connects to a participant when that is first called,
// or, with Config.Discovery, at once in the background. The error says which participant is configured wrongly, and
// how to correct it.
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
		d.maxMessageBytes = defaultMaxMessageBytes
	}
	if config.BreakAfter <= 0 {
		config.BreakAfter = defaultBreakAfter
	}
	d.routes.Store(&map[string]route{})
	d.calls = inflight.New()
	d.greeting, d.stop = context.WithCancel(context.Background())
	if d.self = config.Self; d.self != nil {
		d.scope = d.self.Scope
	}
	for _, p := range config.Participants {
		if err := d.add(p, config); err != nil {
			return nil, errors.Join(err, d.Close(context.Background()))
		}
	}
	if err := d.telemetry.ObserveLoads(d.loads); err != nil {
		return nil, errors.Join(err, d.Close(context.Background()))
	}
	if config.Self != nil {
		for _, p := range d.participants {
			d.greeters.Go(func() { p.run(d.greeting) })
		}
	}
	if config.Discovery {
		d.discovery = newDiscovery(d.participants, d.logger, d.rand)
	}
	return d, nil
}

func (d *Dispatcher) add(p Participant, config Config) error {
	if len(p.Services) == 0 {
		return fmt.Errorf("dispatch: participant %q has no services: "+
			"list their full names, such as acme.customer.v1.CustomerService", p.Target)
	}
	for _, service := range p.Services {
		if service == "" || strings.Contains(service, "/") {
			return fmt.Errorf("dispatch: participant %q: %q isn't a service name: "+
				"write the full name, such as acme.customer.v1.CustomerService", p.Target, service)
		}
		if other, ok := d.services[service]; ok {
			return fmt.Errorf("dispatch: service %s has two participants, %q and %q: configure one",
				service, other.target, p.Target)
		}
	}
	conn, err := dial(p, d.maxMessageBytes, config.DialOptions)
	if err != nil {
		return err
	}
	added := &participant{
		credit: newCredit(p, config.Memory, config.Self != nil, d.logger), name: p.Services[0], target: p.Target,
		conn: conn,
	}
	added.admission = admission.New(admission.Params{
		Ceiling: p.MaxInFlight, PerSecond: p.MaxPerSecond, Hold: added.hold,
	})
	added.greeting = newGreeting(added, config.Self, d.logger, d.rand)
	added.breaker = newBreaker(breakerParams{
		target:     p.Target,
		connection: conn,
		breakAfter: config.BreakAfter,
		telemetry:  d.telemetry,
		logger:     d.logger,
		rand:       d.rand,
	})
	d.participants = append(d.participants, added)
	for _, service := range p.Services {
		d.services[service] = added
	}
	return nil
}

// Admit implements engine.Dispatcher. A command waits while the breaker of its participant is open, while the
// participant hasn't been asked yet what it is, and while it has as many commands as it can answer in time. No command
// that waits is admitted after Close.
func (d *Dispatcher) Admit(
	to engine.Destination, call *contract.CallConfig, claim admission.Claim, granted func(*admission.Slot),
) (*admission.Slot, *admission.Wait) {
	r, ok := d.find(to)
	if !ok {
		return nil, nil // Attempt says that no participant is configured
	}
	return r.participant.admission.Admit(r.participant.method(call), claim, granted)
}

// loads returns what the participants have to do.
func (d *Dispatcher) loads() []telemetry.Load {
	loads := make([]telemetry.Load, 0, len(d.participants))
	for _, p := range d.participants {
		state := p.admission.State()
		loads = append(loads, telemetry.Load{
			Target: p.target, Limit: state.Limit, InFlight: state.InFlight, Waiting: state.Waiting,
		})
	}
	return loads
}

// FirstWaitsSince implements engine.Dispatcher.
func (d *Dispatcher) FirstWaitsSince(definition string) (since time.Time, waits bool) {
	for _, p := range d.participants {
		if first, found := p.admission.FirstWaitsSince(definition); found && (!waits || first.Before(since)) {
			since, waits = first, true
		}
	}
	return since, waits
}

// Close waits until the calls in flight have ended, and closes the connections. When ctx ends first, it cancels the
// calls and returns ctx's error. Later attempts fail without a call.
func (d *Dispatcher) Close(ctx context.Context) error {
	var errs []error
	d.calls.Close()
	if n := d.calls.Wait(ctx); n > 0 {
		errs = append(errs,
			fmt.Errorf("dispatch: closing: %d calls to participants were cancelled: %w", n, context.Cause(ctx)))
	}
	if d.discovery != nil {
		d.discovery.close()
	}
	d.stop()
	d.greeters.Wait()
	for _, p := range d.participants {
		p.admission.Close()
		p.greeting.close()
		p.breaker.close()
		err := p.conn.Close()
		if err != nil && !errors.Is(err, grpc.ErrClientConnClosing) { //nolint:staticcheck // A second Close returns it.
			errs = append(errs, fmt.Errorf("dispatch: closing the connection to %q: %w", p.target, err))
		}
	}
	return errors.Join(errs...)
}
