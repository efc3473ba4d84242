package dispatch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
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
	defaultSilentAfter     = 5 * time.Second
)

// Config configures a Dispatcher.
type Config struct {
	// Participants are the participants to call. No service may be listed twice, except in their Broadcasts.
	Participants []Participant

	// Expected are the commands that sagas may send. The contracts of the participants are compared with them.
	Expected []Expected

	// Telemetry records spans and metrics. Nil records none.
	Telemetry *telemetry.Telemetry

	// Logger logs participants that go down and come back, commands that fail for a while, and commands that no
	// participant serves. Default slog.Default().
	Logger *slog.Logger

	// Scopes says that scopes are opened, which participants are told about. Otherwise they are told nothing, and are
	// taken for plain unless the memory or the configuration says otherwise.
	Scopes bool

	// Memory remembers what is known about participants. Nil remembers nothing.
	Memory Memory

	// MaxMessageBytes limits the size of a request and of a reply. Default 4 MiB.
	MaxMessageBytes int

	// BreakAfter is how many calls in a row must end with UNAVAILABLE before the participant's breaker opens. Calls
	// that were cut off together count once. It opens at once when there is no connection. Default 5.
	BreakAfter int

	// SilentAfter is for how long a participant must not have answered any of several calls, although there is a
	// connection, before its breaker opens. When it answers other methods, the calls of the method are limited instead.
	// Default 5 s.
	SilentAfter time.Duration

	// Rand returns random numbers in [0, 1) for jitter, for tests. It must be safe for concurrent use. Default
	// math/rand/v2.
	Rand func() float64

	// DialOptions are added to those of every connection, for tests.
	DialOptions []grpc.DialOption

	absentAfter   time.Duration
	pace          pace
	troubledAfter time.Duration
	driftedAfter  time.Duration
}

// Dispatcher calls participants. All methods may be called concurrently.
type Dispatcher struct {
	telemetry       *telemetry.Telemetry
	logger          *slog.Logger
	rand            func() float64
	maxMessageBytes int
	scopes          scopes

	// services maps the full name of a service to the participant that serves it. It never changes.
	services map[string]*participant

	// broadcasts maps the full name of a service to the names of the participants that take part in its broadcasts,
	// sorted. It never changes.
	broadcasts map[string][]string

	participants []*participant

	// routes caches the methods that were called. It is replaced when one is added, so that reading takes no lock.
	routes atomic.Pointer[map[string]route]

	// unserved maps the name of each method that was to be called, but for which no participant is configured, to its
	// *troubles.
	unserved      sync.Map
	troubledAfter time.Duration

	calls *inflight.Counter

	// greeting ends when the dispatcher is closed, and with it the goroutines that ask participants what they are.
	greeting context.Context
	stop     context.CancelFunc
}

// New returns a dispatcher for the configured participants. It connects to a participant when that is first called. The
// error says which participant is configured wrongly, and how to correct it.
func New(config Config) (*Dispatcher, error) {
	d := &Dispatcher{
		telemetry:       config.Telemetry,
		logger:          config.Logger,
		rand:            config.Rand,
		maxMessageBytes: config.MaxMessageBytes,
		services:        make(map[string]*participant),
		broadcasts:      make(map[string][]string),
		troubledAfter:   cmp.Or(config.troubledAfter, defaultTroubledAfter),
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
	if config.SilentAfter <= 0 {
		config.SilentAfter = defaultSilentAfter
	}
	d.routes.Store(&map[string]route{})
	d.calls = inflight.New()
	d.greeting, d.stop = context.WithCancel(context.Background())
	for _, p := range config.Participants {
		if err := d.add(p, config); err != nil {
			return nil, errors.Join(err, d.Close(context.Background()))
		}
	}
	if err := d.telemetry.ObserveLoads(d.loads); err != nil {
		return nil, errors.Join(err, d.Close(context.Background()))
	}
	for _, names := range d.broadcasts {
		slices.Sort(names)
	}
	return d, nil
}

func (d *Dispatcher) add(p Participant, config Config) error {
	if len(p.Services) == 0 {
		return fmt.Errorf("dispatch: participant %q has no services: "+
			"list their full names, such as acme.customer.v1.CustomerService", p.Target)
	}
	for _, service := range slices.Concat(p.Services, p.Broadcasts) {
		if service == "" || strings.Contains(service, "/") {
			return fmt.Errorf("dispatch: participant %q: %q isn't a service name: "+
				"write the full name, such as acme.customer.v1.CustomerService", p.Target, service)
		}
	}
	for _, service := range p.Services {
		if other, ok := d.services[service]; ok {
			return fmt.Errorf("dispatch: service %s has two participants, %q and %q: configure one",
				service, other.target, p.Target)
		}
	}
	l := &link{pace: config.pace.defaults(), logger: d.logger, target: p.Target}
	if config.Scopes && !p.Unary {
		l.streams = newStreams(p, d.scopes.any, d.maxMessageBytes, d.logger)
	}
	l.contracts = newContracts(p, config.Expected, d.logger)
	conn, err := dial(p, l, d.maxMessageBytes, config.DialOptions)
	if err != nil {
		return err
	}
	added := &participant{
		credit: newCredit(p, config.Memory, config.Scopes, d.logger), name: p.Services[0], target: p.Target,
		conn: conn, streams: l.streams, contracts: l.contracts, silentAfter: config.SilentAfter,
	}
	added.admission = admission.New(admission.Params{
		Ceiling: p.MaxInFlight, PerSecond: p.MaxPerSecond, Hold: added.hold,
	})
	added.introduction = newIntroduction(added, d.logger, d.rand)
	added.introduction.absentAfter = cmp.Or(config.absentAfter, absentAfter)
	added.breaker = newBreaker(breakerParams{
		services:   p.Services,
		target:     p.Target,
		connection: conn,
		why:        l.why,
		breakAfter: config.BreakAfter,
		telemetry:  d.telemetry,
		logger:     d.logger,
		rand:       d.rand,
	})
	if l.contracts != nil {
		l.contracts.park = added.park
		l.contracts.driftedAfter = cmp.Or(config.driftedAfter, driftedInterval)
		conn.Connect() // commands wait until its contracts were compared
	}
	d.participants = append(d.participants, added)
	for _, service := range p.Services {
		d.services[service] = added
	}
	for _, service := range p.Broadcasts {
		d.broadcasts[service] = append(d.broadcasts[service], added.name)
	}
	return nil
}

// Admit implements engine.Dispatcher. A command waits while the breaker of its participant is open, while the
// participant hasn't been asked yet what it is, while it has another contract of the method, and while it has as many
// commands as it can answer in time. Commands of a method that doesn't answer, while others do, don't wait, so that
// their clocks go on: Attempt sends one at a time. No command that waits is admitted after Close.
func (d *Dispatcher) Admit(
	to engine.Destination, call *contract.CallConfig, claim admission.Claim, granted func(*admission.Slot),
) (*admission.Slot, *admission.Wait) {
	r, ok := d.find(to)
	if !ok {
		return nil, nil // Attempt says that no participant is configured
	}
	p := r.participant
	m := p.method(call)
	if m.limited.Load() && m.parked.Load() == nil && p.introduction.open.Load() && p.breaker.current().is(closed) {
		return nil, nil // Attempt sends one at a time, and the others' clocks go on
	}
	slot, wait := p.admission.Admit(m.limits, claim, granted)
	if wait != nil {
		wait.Why, wait.Unreachable = m.why, p.breaker.why
	}
	return slot, wait
}

// loads returns what the participants have to do.
func (d *Dispatcher) loads() []telemetry.Load {
	loads := make([]telemetry.Load, 0, len(d.participants))
	for _, p := range d.participants {
		state := p.admission.State()
		loads = append(loads, telemetry.Load{
			Target: p.target, Limit: state.Limit, InFlight: state.InFlight, Waiting: state.Waiting,
			ParkedMethods: p.contracts.parkedMethods(),
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
	d.stop()
	d.scopes.wait()
	for _, p := range d.participants {
		p.admission.Close()
		p.introduction.close()
		p.breaker.close()
		err := p.conn.Close()
		if err != nil && !errors.Is(err, grpc.ErrClientConnClosing) { //nolint:staticcheck // A second Close returns it.
			errs = append(errs, fmt.Errorf("dispatch: closing the connection to %q: %w", p.target, err))
		}
	}
	return errors.Join(errs...)
}
