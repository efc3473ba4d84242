package dispatch

import (
	"context"
	"log/slog"
	"slices"
	"sync"

	"github.com/treatyhq/treaty/orchestrator/internal/engine"
)

// Discover returns the names of the participants that serve a service, sorted. Participants say what they serve by
// gRPC server reflection. They are asked when they connect and after each reconnect. An answer holds until the next
// one, also while the participant is down.
//
// While a participant has never answered, Known is false, so that a broadcast skips no participant, and wake is
// called once when another participant has answered. cancel, which is never nil, removes wake; a call of wake that
// has begun isn't stopped. Wake functions are called one after the other by one goroutine, so they must not block.
// After Close, none is called.
//
// Without Config.Discovery no participant is asked: Known is false and wake is never called.
func (d *Dispatcher) Discover(service string, wake func()) (found engine.Discovered, cancel func()) {
	if d.discovery == nil {
		d.logger.Error("dispatch: a broadcast waits forever: "+
			"set Config.Discovery, so that participants are asked what they serve", "service", service)
		return engine.Discovered{}, func() {}
	}
	return d.discovery.find(service, wake)
}

// discovery holds which services the participants serve. One goroutine per participant asks it, and one more wakes
// those who wait for an answer.
type discovery struct {
	logger *slog.Logger
	rand   func() float64

	// ctx ends when the discovery is closed, and with it the goroutines.
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	// answers has room for one signal that a participant has answered for the first time.
	answers chan struct{}

	// mu guards what follows.
	mu sync.Mutex

	// served maps the name of each participant to its services, sorted; nil if it has never answered.
	served map[string][]string

	// unanswered is how many participants have never answered.
	unanswered int

	waiting waitlist
}

// newDiscovery returns a discovery and begins to ask the participants.
func newDiscovery(participants []*participant, logger *slog.Logger, rand func() float64) *discovery {
	d := &discovery{
		logger:     logger,
		rand:       rand,
		answers:    make(chan struct{}, 1),
		served:     make(map[string][]string, len(participants)),
		unanswered: len(participants),
	}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	for _, p := range participants {
		d.served[p.name] = nil
	}
	for _, p := range participants {
		d.running.Go(func() { (&serviceLister{discovery: d, participant: p}).run() })
	}
	d.running.Go(d.wakeWaiting)
	return d
}

// close ends the goroutines. Those who wait are never woken.
func (d *discovery) close() {
	d.cancel()
	d.running.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waiting = waitlist{}
}

func (d *discovery) find(service string, wake func()) (engine.Discovered, func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	found := engine.Discovered{Known: d.unanswered == 0}
	for name, services := range d.served {
		if _, ok := slices.BinarySearch(services, service); ok {
			found.Participants = append(found.Participants, name)
		}
		if services == nil {
			found.Unanswered = append(found.Unanswered, name)
		}
	}
	slices.Sort(found.Participants)
	slices.Sort(found.Unanswered)
	if found.Known {
		return found, func() {}
	}
	w := d.waiting.add(wake)
	return found, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.waiting.remove(w)
	}
}

// setServices records a participant's answer: its services, sorted and not nil.
func (d *discovery) setServices(name string, services []string) {
	d.mu.Lock()
	first := d.served[name] == nil
	d.served[name] = services
	if first {
		d.unanswered--
	}
	d.mu.Unlock()
	if first {
		select {
		case d.answers <- struct{}{}:
		default:
		}
	}
}

// hasAnswered returns whether a participant has ever answered.
func (d *discovery) hasAnswered(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.served[name] != nil
}

// wakeWaiting wakes all who wait whenever a participant has answered for the first time.
func (d *discovery) wakeWaiting() {
	for {
		select {
		case <-d.answers:
			d.mu.Lock()
			woken := d.waiting.take(d.waiting.len)
			d.mu.Unlock()
			woken.wakeAll()
		case <-d.ctx.Done():
			return
		}
	}
}
