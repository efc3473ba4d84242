package dispatch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	reflectiongrpc "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/treatyhq/treaty/orchestrator/internal/engine"
)

const (
	// listTimeout bounds one question for what a participant serves, listMaxBytes its answer.
	listTimeout  = 10 * time.Second
	listMaxBytes = 1 << 20

	// relistInitial and relistMax bound the wait before a participant that couldn't say what it serves is asked again. It doubles.
	relistInitial = 250 * time.Millisecond
	relistMax     = 30 * time.Second

	// relistInterval is how often a participant is asked again while its connection lasts: behind one name there may be several processes, and
	// a reconnect that is over in an instant can go unseen.
	relistInterval = 5 * time.Minute
)

// Discover returns the names of the participants that serve a service, sorted, as they said by gRPC server reflection. They are asked when they
// connect and after each reconnect; what one said holds while it is down, and until it says something else. As long as one of those
// that are configured has never answered, Known is false, so that a broadcast skips nobody, and wake is called once when another one has
// answered; cancel, which is never nil, takes wake back, except one that is under way at that moment. Wakes come one after the other
// from one goroutine, so they must not block. After Close, wakes don't come any more.
//
// Without Config.Discovery nobody is asked: Known is false and wake is never called.
func (d *Dispatcher) Discover(service string, wake func()) (found engine.Discovered, cancel func()) {
	if d.discovery == nil {
		d.logger.Error("dispatch: a broadcast waits for ever: set Config.Discovery, so that participants are asked what they serve", "service", service)
		return engine.Discovered{}, func() {}
	}
	return d.discovery.find(service, wake)
}

// discovery keeps what the participants serve. One goroutine per participant asks it, one more wakes those who wait for an answer.
type discovery struct {
	logger *slog.Logger
	rand   func() float64

	stop    context.CancelFunc
	stopped context.Context
	running sync.WaitGroup

	// answers has room for one signal that a participant answered for the first time.
	answers chan struct{}

	// mu guards what follows.
	mu sync.Mutex

	// served maps each participant's name to its services, sorted; nil as long as it has never answered.
	served map[string][]string

	// silent is how many have never answered.
	silent  int
	waiting queue
}

// discover begins to ask the participants.
func discover(participants []*participant, logger *slog.Logger, rand func() float64) *discovery {
	d := &discovery{
		logger:  logger,
		rand:    rand,
		answers: make(chan struct{}, 1),
		served:  make(map[string][]string, len(participants)),
		silent:  len(participants),
	}
	d.stopped, d.stop = context.WithCancel(context.Background())
	for _, p := range participants {
		d.served[p.name] = nil
	}
	for _, p := range participants {
		d.running.Go(func() { (&inquiry{discovery: d, participant: p}).run() })
	}
	d.running.Go(d.wakeWaiting)
	return d
}

// close ends the goroutines and forgets who waits.
func (d *discovery) close() {
	d.stop()
	d.running.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waiting = queue{}
}

func (d *discovery) find(service string, wake func()) (engine.Discovered, func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	found := engine.Discovered{Known: d.silent == 0}
	for name, services := range d.served {
		if _, ok := slices.BinarySearch(services, service); ok {
			found.Participants = append(found.Participants, name)
		}
		if services == nil {
			found.Silent = append(found.Silent, name)
		}
	}
	slices.Sort(found.Participants)
	slices.Sort(found.Silent)
	if found.Known {
		return found, func() {}
	}
	e := d.waiting.push(wake)
	return found, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.waiting.remove(e)
	}
}

// answered keeps what a participant serves.
func (d *discovery) answered(name string, services []string) {
	d.mu.Lock()
	first := d.served[name] == nil
	d.served[name] = services
	if first {
		d.silent--
	}
	d.mu.Unlock()
	if first {
		select {
		case d.answers <- struct{}{}:
		default:
		}
	}
}

// known returns whether a participant has ever answered.
func (d *discovery) known(name string) bool {
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
			awake := d.waiting.take(d.waiting.len)
			d.mu.Unlock()
			awake.wakeAll()
		case <-d.stopped.Done():
			return
		}
	}
}

// inquiry asks one participant, again and again.
type inquiry struct {
	*discovery

	participant *participant

	// warned is what an operator was told since the last answer.
	warned map[string]bool
}

func (q *inquiry) run() {
	wait := relistInitial
	for q.connect() {
		services, err := q.list()
		if err == nil {
			q.answered(q.participant.name, services)
			q.warned, wait = nil, relistInitial
			q.await(connectivity.Ready, relistInterval)
			continue
		}
		q.failed(err)
		if !q.pause(wait) {
			return
		}
		wait = min(2*wait, relistMax)
	}
}

// connect waits until there is a connection; it returns false when the discovery is closed.
func (q *inquiry) connect() bool {
	conn := q.participant.conn
	for {
		state := conn.GetState()
		switch state {
		case connectivity.Ready:
			return q.stopped.Err() == nil
		case connectivity.Shutdown:
			return false
		case connectivity.Idle:
			conn.Connect()
		case connectivity.TransientFailure:
			q.warn("can't be reached", nil)
		}
		if !conn.WaitForStateChange(q.stopped, state) {
			return false
		}
	}
}

// await waits until the connection's state is another one, or the time is over, or the discovery is closed.
func (q *inquiry) await(state connectivity.State, limit time.Duration) {
	ctx, cancel := context.WithTimeout(q.stopped, limit)
	defer cancel()
	q.participant.conn.WaitForStateChange(ctx, state)
}

// pause waits, with jitter; it returns false when the discovery is closed.
func (q *inquiry) pause(wait time.Duration) bool {
	timer := time.NewTimer(wait/2 + time.Duration(q.rand()*float64(wait/2)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-q.stopped.Done():
		return false
	}
}

// failed tells an operator that the participant doesn't say what it serves.
func (q *inquiry) failed(err error) {
	switch {
	case q.stopped.Err() != nil:
	case status.Code(err) == codes.Unimplemented:
		q.warn("doesn't say what it serves: switch gRPC server reflection (grpc.reflection.v1) on there", err)
	case q.participant.conn.GetState() != connectivity.Ready:
		// The connection broke. The next one is asked.
	default:
		q.warn("failed to say what it serves by gRPC server reflection", err)
	}
}

// warn says a thing once until the participant answers again.
func (q *inquiry) warn(what string, err error) {
	if q.warned[what] {
		return
	}
	if q.warned == nil {
		q.warned = make(map[string]bool)
	}
	q.warned[what] = true
	consequence := "broadcasts wait until it has answered"
	if q.known(q.participant.name) {
		consequence = "broadcasts go by what it said before"
	}
	attrs := []slog.Attr{slog.String("participant", q.participant.name), slog.String("target", q.participant.target)}
	if err != nil {
		attrs = append(attrs, slog.Any("error", err))
	}
	q.logger.LogAttrs(q.stopped, slog.LevelWarn, "a participant "+what+"; "+consequence, attrs...)
}

// list asks for the services, and returns them sorted and not nil.
func (q *inquiry) list() (services []string, err error) {
	ctx, cancel := context.WithTimeout(q.stopped, listTimeout)
	defer cancel()
	stream, err := reflectiongrpc.NewServerReflectionClient(q.participant.conn).ServerReflectionInfo(ctx,
		grpc.MaxCallRecvMsgSize(listMaxBytes))
	if err != nil {
		return nil, err
	}
	ask := &reflectiongrpc.ServerReflectionRequest{MessageRequest: &reflectiongrpc.ServerReflectionRequest_ListServices{ListServices: "*"}}
	// When sending fails with EOF, receiving says why.
	if err := stream.Send(ask); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	answer, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	listed := answer.GetListServicesResponse()
	if listed == nil {
		return nil, fmt.Errorf("asked for its services, the participant answered with code %d: %.200q",
			answer.GetErrorResponse().GetErrorCode(), answer.GetErrorResponse().GetErrorMessage())
	}
	services = make([]string, 0, len(listed.GetService()))
	for _, s := range listed.GetService() {
		services = append(services, s.GetName())
	}
	slices.Sort(services)
	return slices.Compact(services), nil
}
