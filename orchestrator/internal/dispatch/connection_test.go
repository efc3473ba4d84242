package dispatch

import (
	"context"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpchealth "google.golang.org/grpc/health"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/treatyhq/treaty/internal/hostile"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/orchestrator/internal/admission"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
)

// quick looks after connections sooner than usual.
func quick(c *testConfig) {
	c.pace = pace{probe: 50 * time.Millisecond, replace: 100 * time.Millisecond}
	c.SilentAfter = 100 * time.Millisecond
}

// impatient returns an attempt that waits for a short time only.
func impatient(timeout time.Duration) *engine.Attempt {
	a := attempt()
	a.Call.Timeout = timeout
	return a
}

// attemptsUntilDone makes attempts one after the other until one is done, and returns how many. It fails the test after
// too many.
func attemptsUntilDone(t *testing.T, d *Dispatcher, most int, next func() *engine.Attempt) (attempts int) {
	t.Helper()
	var last engine.Answer
	for attempts < most {
		attempts++
		if last = d.Attempt(t.Context(), next()); last.Outcome == outcomeDone {
			return attempts
		}
	}
	t.Fatalf("not done after %d attempts; the last one: %v", attempts, last)
	return attempts
}

// manyAttempts are enough for any change to be noticed, which takes milliseconds.
const manyAttempts = 20_000

// isOpen returns whether the breaker of the only participant holds calls back.
func isOpen(d *Dispatcher) bool { return !d.participants[0].breaker.current().is(closed) }

// awaitOpenBreaker makes attempts until the breaker is open. It fails the test after too many.
func awaitOpenBreaker(t *testing.T, d *Dispatcher, most int, next func() *engine.Attempt) {
	t.Helper()
	for range most {
		if isOpen(d) {
			return
		}
		d.Attempt(t.Context(), next())
	}
	t.Fatalf("the breaker is closed after %d attempts", most)
}

// middle starts a hostile middle in front of a server.
func middle(t *testing.T, upstream string, options hostile.Options, program hostile.Program) *hostile.Middle {
	t.Helper()
	m, err := hostile.Listen(upstream, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	m.Program(program)
	return m
}

// A connection is acknowledged by something on the way, and nothing passes. A new one is tried beside it, long before
// TCP or the keepalive find out.
func TestHalfOpenConnection(t *testing.T) {
	expectNoLeak(t)
	m := middle(t, serve(t, anyPort, echo).addr, hostile.Options{}, func(call *hostile.Call) hostile.Plan {
		if call.Connection == 1 && call.Number > 1 {
			return hostile.Give(hostile.HalfOpen(), hostile.BeforeRequest)
		}
		return hostile.Pass()
	})
	d := dispatcher(t, m.Addr(), quick)
	if answer := d.Attempt(t.Context(), attempt()); answer.Outcome != outcomeDone {
		t.Fatalf("got %v", answer)
	}
	attempts := attemptsUntilDone(t, d, 20, func() *engine.Attempt { return impatient(100 * time.Millisecond) })
	if attempts < 2 {
		t.Error("the connection wasn't half open")
	}
	calls := m.Calls()
	if last := calls[len(calls)-1].Call; last.Connection != 2 {
		t.Errorf("the command went over connection %d, want 2", last.Connection)
	}
}

// Calls in flight stay on a connection that is replaced, until they end.
func TestReplacedConnectionKeepsItsCalls(t *testing.T) {
	expectNoLeak(t)
	var connection atomic.Value
	arrived, release := make(chan struct{}), make(chan struct{})
	s := newServer(func(ctx context.Context, request []byte) ([]byte, error) {
		connection.Store(peerOf(ctx))
		switch string(request) {
		case "long":
			close(arrived)
			<-release
		case "hang":
			<-release
		}
		return request, nil
	})
	healthgrpc.RegisterHealthServer(s, hangingHealth{until: release})
	port := freePort(t)
	serveAt(t, s, firstHost, port)
	d := dispatcher(t, net.JoinHostPort(firstHost, strconv.Itoa(port)), quick)

	long, hang := attempt(), impatient(50*time.Millisecond)
	long.Request, hang.Request = []byte("long"), []byte("hang")
	long.Call.Timeout = time.Minute
	answers := make(chan engine.Answer, 1)
	go func() { answers <- d.Attempt(t.Context(), long) }()
	<-arrived
	before := connection.Load()
	for n := 0; connection.Load() == before; n++ {
		if n == 100 {
			t.Fatal("the connection isn't replaced")
		}
		d.Attempt(t.Context(), hang)
		if answer := d.Attempt(t.Context(), attempt()); answer.Outcome != outcomeDone {
			t.Fatalf("got %v", answer)
		}
	}
	close(release)
	if answer := <-answers; answer.Outcome != outcomeDone || answer.Repeated {
		t.Errorf("the call on the old connection: got %v", answer)
	}
}

// hangingHealth is a health service that answers nothing until a channel is closed.
type hangingHealth struct {
	healthgrpc.UnimplementedHealthServer

	until <-chan struct{}
}

func (h hangingHealth) Check(context.Context, *healthgrpc.HealthCheckRequest) (*healthgrpc.HealthCheckResponse, error) {
	<-h.until
	return nil, status.Error(codes.Unavailable, "too late")
}

func (hangingHealth) Watch(_ *healthgrpc.HealthCheckRequest, stream healthgrpc.Health_WatchServer) error {
	<-stream.Context().Done()
	return status.FromContextError(stream.Context().Err()).Err()
}

// peerOf returns the address of a handler's caller.
func peerOf(ctx context.Context) string {
	p, _ := peer.FromContext(ctx)
	return p.Addr.String()
}

// place counts the commands that arrive at one address.
type place struct {
	*grpc.Server

	commands atomic.Int32
	health   *grpchealth.Server
}

func newPlace(h handler, options ...grpc.ServerOption) *place {
	p := new(place)
	p.Server = newServer(func(ctx context.Context, request []byte) ([]byte, error) {
		p.commands.Add(1)
		return h(ctx, request)
	}, options...)
	return p
}

// withHealth makes the place serve health checking.
func (p *place) withHealth() *place {
	p.health = grpchealth.NewServer()
	healthgrpc.RegisterHealthServer(p.Server, p.health)
	return p
}

func (p *place) says(s healthgrpc.HealthCheckResponse_ServingStatus) {
	p.health.SetServingStatus("", s)
}

// twoPlaces starts a participant with two addresses, and a dispatcher that calls it by its name.
func twoPlaces(t *testing.T, first, second *place, change ...func(*testConfig)) *Dispatcher {
	t.Helper()
	port := freePort(t)
	serveAt(t, first.Server, firstHost, port)
	serveAt(t, second.Server, secondHost, port)
	names := startNameServer(t, firstHost, secondHost)
	return dispatcher(t, names.target(port), append([]func(*testConfig){named}, change...)...)
}

// awaitBoth makes attempts until both places have got commands.
func awaitBoth(t *testing.T, d *Dispatcher, first, second *place) {
	t.Helper()
	for range manyAttempts {
		if answer := d.Attempt(t.Context(), attempt()); answer.Outcome != outcomeDone {
			t.Fatalf("got %v", answer)
		}
		if first.commands.Load() > 0 && second.commands.Load() > 0 {
			return
		}
	}
	t.Fatal("all commands went to one address")
}

// Commands go to all addresses of a name.
func TestCallsAreSpread(t *testing.T) {
	expectNoLeak(t)
	first, second := newPlace(echo), newPlace(echo)
	d := twoPlaces(t, first, second)
	const calls = 1000
	for range calls {
		if answer := d.Attempt(t.Context(), attempt()); answer.Outcome != outcomeDone {
			t.Fatalf("got %v", answer)
		}
	}
	one, other := first.commands.Load(), second.commands.Load()
	if one+other != calls || one < calls/4 || other < calls/4 {
		t.Errorf("%d commands went to one address and %d to the other", one, other)
	}
}

// An address that says NOT_SERVING gets no commands. When all say so, none is sent, and the breaker opens.
func TestHealthOfAddresses(t *testing.T) {
	expectNoLeak(t)
	first, second := newPlace(echo).withHealth(), newPlace(echo).withHealth()
	d := twoPlaces(t, first, second)
	awaitBoth(t, d, first, second)

	second.says(healthgrpc.HealthCheckResponse_NOT_SERVING)
	awaitOnly(t, d, first, second)
	if isOpen(d) {
		t.Error("one of two addresses opened the breaker")
	}

	first.says(healthgrpc.HealthCheckResponse_NOT_SERVING)
	awaitOpenBreaker(t, d, manyAttempts, attempt)
	arrived := first.commands.Load() + second.commands.Load()
	if answer := d.Attempt(t.Context(), attempt()); answer.Evidence != engine.AttemptNotRun {
		t.Errorf("got %v", answer)
	}
	if now := first.commands.Load() + second.commands.Load(); now != arrived {
		t.Error("a command went to a participant that says NOT_SERVING")
	}

	second.says(healthgrpc.HealthCheckResponse_SERVING)
	attemptUntilDone(t, d)
	awaitOnly(t, d, second, first)
}

// awaitOnly makes attempts until many in a row go to the one place and none to the other.
func awaitOnly(t *testing.T, d *Dispatcher, one, other *place) {
	t.Helper()
	const inARow = 50
	run := 0
	for range manyAttempts {
		before := one.commands.Load()
		answer := d.Attempt(t.Context(), attempt())
		if run++; one.commands.Load() != before+1 || answer.Outcome != outcomeDone {
			run = 0
		}
		if run >= inARow {
			return
		}
	}
	t.Fatalf("the commands are still spread: %d went to one address, and %d to the other", one.commands.Load(),
		other.commands.Load())
}

// strangeHealth answers every question about its health in one strange way.
type strangeHealth struct {
	healthgrpc.UnimplementedHealthServer

	watch func(healthgrpc.Health_WatchServer) error
}

func (s strangeHealth) Watch(_ *healthgrpc.HealthCheckRequest, stream healthgrpc.Health_WatchServer) error {
	return s.watch(stream)
}

// Only NOT_SERVING keeps commands from an address. Nothing else that health checking comes to does.
func TestStrangeHealth(t *testing.T) {
	say := func(s healthgrpc.HealthCheckResponse_ServingStatus) func(healthgrpc.Health_WatchServer) error {
		return func(stream healthgrpc.Health_WatchServer) error {
			return stream.Send(&healthgrpc.HealthCheckResponse{Status: s})
		}
	}
	fail := func(code codes.Code) func(healthgrpc.Health_WatchServer) error {
		return func(healthgrpc.Health_WatchServer) error { return status.Error(code, "no") }
	}
	for name, watch := range map[string]func(healthgrpc.Health_WatchServer) error{
		"refused":         fail(codes.PermissionDenied),
		"unavailable":     fail(codes.Unavailable),
		"ends":            func(healthgrpc.Health_WatchServer) error { return nil },
		"unknown service": say(healthgrpc.HealthCheckResponse_SERVICE_UNKNOWN),
		"unknown":         say(healthgrpc.HealthCheckResponse_UNKNOWN),
		"hangs":           func(stream healthgrpc.Health_WatchServer) error { <-stream.Context().Done(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			asked := make(chan struct{}, 100)
			p := newPlace(echo)
			healthgrpc.RegisterHealthServer(p.Server, strangeHealth{
				watch: func(stream healthgrpc.Health_WatchServer) error {
					defer func() { asked <- struct{}{} }()
					return watch(stream)
				},
			})
			port := freePort(t)
			serveAt(t, p.Server, firstHost, port)
			d := dispatcher(t, net.JoinHostPort(firstHost, strconv.Itoa(port)))
			for round := range 20 {
				if answer := d.Attempt(t.Context(), attempt()); answer.Outcome != outcomeDone {
					t.Fatalf("got %v", answer)
				}
				if round == 0 && name != "hangs" {
					<-asked
				}
			}
		})
	}
}

// The breaker opens when all addresses are down, and not when one of them is.
func TestOneOfTwoAddressesIsDown(t *testing.T) {
	expectNoLeak(t)
	first, second := newPlace(echo), newPlace(echo)
	d := twoPlaces(t, first, second)
	awaitBoth(t, d, first, second)
	second.Stop()
	failed := 0
	for range 500 {
		if answer := d.Attempt(t.Context(), attempt()); answer.Outcome != outcomeDone {
			failed++
		}
		if isOpen(d) {
			t.Fatal("one of two addresses opened the breaker")
		}
	}
	if failed > 1 {
		t.Errorf("%d commands failed after one address was gone", failed)
	}
	first.Stop()
	awaitOpenBreaker(t, d, 5, attempt)
}

// An address that doesn't answer isn't called while another one answers.
func TestOneOfTwoAddressesIsSilent(t *testing.T) {
	expectNoLeak(t)
	up := serve(t, anyPort, echo).addr
	port := freePort(t)
	at := func(host string) hostile.Options {
		return hostile.Options{Address: net.JoinHostPort(host, strconv.Itoa(port))}
	}
	good := middle(t, up, at(firstHost), nil)
	silent := middle(t, up, at(secondHost), func(*hostile.Call) hostile.Plan {
		return hostile.Give(hostile.HalfOpen(), hostile.BeforeRequest)
	})
	names := startNameServer(t, firstHost, secondHost)
	d := dispatcher(t, names.target(port), quick, named, func(c *testConfig) {
		c.pace.probe, c.pace.replace = 50*time.Millisecond, time.Hour
		c.SilentAfter = defaultSilentAfter
	})
	const calls = 200
	failed := 0
	for range calls {
		if answer := d.Attempt(t.Context(), impatient(100*time.Millisecond)); answer.Outcome != outcomeDone {
			failed++
		}
		if isOpen(d) {
			t.Fatal("one of two addresses opened the breaker")
		}
	}
	// It is tried on its first connection, and once more on the one that was opened beside it.
	if failed > 10 {
		t.Errorf("%d of %d commands weren't answered", failed, calls)
	}
	if n := len(good.Calls()); n < calls-failed {
		t.Errorf("%d commands went to the address that answers", n)
	}
	if len(silent.Calls()) == 0 {
		t.Error("no command went to the other address")
	}
}

// An address that hasn't answered, also on its next connections, is called again when it does.
func TestSilentAddressComesBack(t *testing.T) {
	expectNoLeak(t)
	up := serve(t, anyPort, echo).addr
	port := freePort(t)
	at := func(host string) hostile.Options {
		return hostile.Options{Address: net.JoinHostPort(host, strconv.Itoa(port))}
	}
	middle(t, up, at(firstHost), nil)
	silent := middle(t, up, at(secondHost), func(call *hostile.Call) hostile.Plan {
		if call.Connection < 4 {
			return hostile.Give(hostile.HalfOpen(), hostile.BeforeRequest)
		}
		return hostile.Pass()
	})
	names := startNameServer(t, firstHost, secondHost)
	d := dispatcher(t, names.target(port), named, func(c *testConfig) {
		c.pace.probe, c.pace.replace = 50*time.Millisecond, 200*time.Millisecond
	})
	for range 10 * manyAttempts {
		d.Attempt(t.Context(), impatient(100*time.Millisecond))
		calls := silent.Calls()
		if n := len(calls); n > 0 && calls[n-1].Call.Connection >= 4 {
			return
		}
	}
	t.Fatalf("the address isn't called any more; it got %d commands", len(silent.Calls()))
}

// A name moves to another address. That is noticed about a second after the connection broke, and not after half a
// minute.
func TestNameMoves(t *testing.T) {
	expectNoLeak(t)
	port := freePort(t)
	before, after := newPlace(echo), newPlace(echo)
	serveAt(t, before.Server, firstHost, port)
	serveAt(t, after.Server, secondHost, port)
	names := startNameServer(t, firstHost)
	d := dispatcher(t, names.target(port), named, func(c *testConfig) { c.pace = pace{} }) // as it usually is
	if answer := d.Attempt(t.Context(), attempt()); answer.Outcome != outcomeDone {
		t.Fatalf("got %v", answer)
	}
	names.set(secondHost)
	before.Stop()
	start := time.Now()
	attemptUntilDone(t, d)
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	if after.commands.Load() == 0 {
		t.Error("the command didn't go to the new address")
	}
}

// A lookup that finds nothing takes no connection away, and is repeated soon. Another address of a name is found while
// the first one works.
func TestNameIsGoneForAWhile(t *testing.T) {
	expectNoLeak(t)
	port := freePort(t)
	before, after := newPlace(echo), newPlace(echo)
	serveAt(t, before.Server, firstHost, port)
	serveAt(t, after.Server, secondHost, port)
	names := startNameServer(t, firstHost)
	d := dispatcher(t, names.target(port), named, func(c *testConfig) { c.pace.refresh = 50 * time.Millisecond })
	if answer := d.Attempt(t.Context(), attempt()); answer.Outcome != outcomeDone {
		t.Fatalf("got %v", answer)
	}
	names.set()
	names.awaitLookups(t, 5)
	if answer := d.Attempt(t.Context(), attempt()); answer.Outcome != outcomeDone {
		t.Fatalf("while the name is gone: got %v", answer)
	}
	before.Stop()
	awaitOpenBreaker(t, d, 5, attempt)
	names.awaitLookups(t, 5)
	names.set(secondHost)
	attemptUntilDone(t, d)
	if after.commands.Load() == 0 {
		t.Error("the command didn't go to the new address")
	}
}

func TestAddressIsAdded(t *testing.T) {
	expectNoLeak(t)
	first, second := newPlace(echo), newPlace(echo)
	port := freePort(t)
	serveAt(t, first.Server, firstHost, port)
	serveAt(t, second.Server, secondHost, port)
	names := startNameServer(t, firstHost)
	d := dispatcher(t, names.target(port), named, func(c *testConfig) { c.pace.refresh = 50 * time.Millisecond })
	if answer := d.Attempt(t.Context(), attempt()); answer.Outcome != outcomeDone {
		t.Fatalf("got %v", answer)
	}
	names.set(firstHost, secondHost)
	awaitBoth(t, d, first, second)
}

// A server that closes its connections when they are old is never down, even if it cuts calls off.
func TestMaxConnectionAge(t *testing.T) {
	expectNoLeak(t)
	const sagas, commands = 50, 30
	var connections sync.Map
	var executed atomic.Int32
	s := newPlace(func(ctx context.Context, request []byte) ([]byte, error) {
		connections.Store(peerOf(ctx), true)
		executed.Add(1)
		select {
		case <-time.After(30 * time.Millisecond): // longer than the server lets it finish
		case <-ctx.Done():
		}
		return request, nil
	}, grpc.KeepaliveParams(keepalive.ServerParameters{
		MaxConnectionAge: 300 * time.Millisecond, MaxConnectionAgeGrace: 10 * time.Millisecond,
	}))
	port := freePort(t)
	serveAt(t, s.Server, firstHost, port)
	log := func(c *testConfig) { c.Logger = testkit.Logger(t) }
	d := dispatcher(t, net.JoinHostPort(firstHost, strconv.Itoa(port)), log)
	var all sync.WaitGroup
	var attempts, opened atomic.Int32
	for range sagas {
		all.Go(func() {
			for range commands {
				for done := false; !done && t.Context().Err() == nil; {
					if isOpen(d) {
						opened.Add(1)
					}
					attempts.Add(1)
					done = d.Attempt(t.Context(), attempt()).Outcome == outcomeDone
				}
			}
		})
	}
	all.Wait()
	n := 0
	connections.Range(func(any, any) bool { n++; return true })
	cut := attempts.Load() - sagas*commands
	t.Logf("%d connections, %d attempts were cut off, %d executions", n, cut, executed.Load())
	if n < 3 || cut == 0 {
		t.Errorf("there were %d connections, and %d attempts were cut off; the test tests too little", n, cut)
	}
	if opened.Load() > 0 {
		t.Error("the breaker opened for a participant that was never down")
	}
	if duplicates := executed.Load() - sagas*commands; duplicates > cut {
		t.Errorf("%d executions were duplicates, but only %d attempts were cut off", duplicates, cut)
	}
}

// hanging is a handler that answers nothing to some methods until it is released.
type hanging struct {
	methods func(string) bool
	release chan struct{}
	arrived chan struct{} // is closed when the request "tell" arrives
}

func (h *hanging) handle(ctx context.Context, request []byte) ([]byte, error) {
	method, _ := grpc.Method(ctx)
	if !h.methods(method) {
		return request, nil
	}
	if string(request) == "tell" {
		close(h.arrived)
	}
	select {
	case <-h.release:
		return request, nil
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

// A participant answers nothing, though its connection lives. Its breaker opens, and one command at a time is tried.
func TestParticipantHangs(t *testing.T) {
	expectNoLeak(t)
	h := &hanging{methods: func(string) bool { return true }, release: make(chan struct{})}
	d := dispatcher(t, serve(t, anyPort, h.handle).addr, quick)
	next := func() *engine.Attempt { return impatient(50 * time.Millisecond) }
	awaitOpenBreaker(t, d, 100, next)

	const sagas = 50
	var all sync.WaitGroup
	var tried, inFlight, most atomic.Int32
	var released atomic.Bool
	probes := make(chan struct{}, 10*sagas)
	for range sagas {
		all.Go(func() {
			for t.Context().Err() == nil {
				call := next()
				call.Slot = <-admit(d)
				tried.Add(1)
				if n := inFlight.Add(1); !released.Load() {
					most.Store(max(n, most.Load()))
				}
				done := d.Attempt(t.Context(), call).Outcome == outcomeDone
				inFlight.Add(-1)
				probes <- struct{}{}
				if done {
					return
				}
			}
		})
	}
	for range 3 {
		<-probes
	}
	released.Store(true)
	if n := most.Load(); n > 1 {
		t.Errorf("%d commands were tried at a time", n)
	}
	close(h.release)
	all.Wait()
	if n := tried.Load(); n > 2*sagas {
		t.Errorf("%d attempts for %d sagas", n, sagas)
	}
}

// A participant answers DEADLINE_EXCEEDED at once, because something that it calls was late. It isn't silent.
func TestQuickDeadlineExceeded(t *testing.T) {
	d := dispatcher(t, serve(t, anyPort, says(codes.DeadlineExceeded)).addr)
	for range 10 * silentCalls {
		d.Attempt(t.Context(), attempt())
		if isOpen(d) {
			t.Fatal("the breaker is open")
		}
	}
}

// One method of a participant answers nothing. It alone is limited, and its commands aren't parked, so that they are
// given up in time.
func TestMethodHangs(t *testing.T) {
	expectNoLeak(t)
	const hangs = testService + "/Hang"
	h := &hanging{
		methods: func(method string) bool { return method == "/"+hangs }, release: make(chan struct{}),
		arrived: make(chan struct{}),
	}
	d := dispatcher(t, serve(t, anyPort, h.handle).addr, quick)
	hang := func() *engine.Attempt {
		a := impatient(50 * time.Millisecond)
		a.Call.Method = hangs
		return a
	}
	m := d.participants[0].method(hang().Call)
	for n := 0; !m.limited.Load(); n++ {
		if n == 100 {
			t.Fatal("the method isn't limited")
		}
		var both sync.WaitGroup
		both.Go(func() { d.Attempt(t.Context(), hang()) })
		both.Go(func() {
			if answer := d.Attempt(t.Context(), attempt()); answer.Outcome != outcomeDone {
				t.Errorf("another method: got %v", answer)
			}
		})
		both.Wait()
	}
	if isOpen(d) {
		t.Error("the breaker is open")
	}

	// Its commands don't wait for a slot, and the one that is sent leaves its own to those that did before.
	to := engine.Destination{Method: hangs}
	if _, wait := d.Admit(to, hang().Call, admission.Claim{}, (*admission.Slot).Release); wait != nil {
		t.Error("a command waits for a slot, so that its clock stands")
	}
	controller := d.participants[0].admission
	sent := attempt()
	sent.Call.Method, sent.Request = hangs, []byte("tell")
	sent.Slot, _ = controller.Admit(m.limits, admission.Claim{}, (*admission.Slot).Release)
	ctx, cancel := context.WithCancel(t.Context())
	var sending sync.WaitGroup
	sending.Go(func() { d.Attempt(ctx, sent) })
	<-h.arrived
	if state := controller.State(); state.InFlight > 0 {
		t.Errorf("%d slots are taken", state.InFlight)
	}
	for range 20 {
		if answer := d.Attempt(t.Context(), hang()); answer.Evidence != engine.AttemptNotRun {
			t.Errorf("while another one is being sent: got %v", answer)
		}
	}
	cancel()
	sending.Wait()

	close(h.release)
	patient := func() *engine.Attempt {
		a := attempt()
		a.Call.Method = hangs
		return a
	}
	attemptsUntilDone(t, d, 1, patient)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if answer := d.Attempt(t.Context(), patient()); answer.Outcome != outcomeDone {
				t.Errorf("after an answer: got %v", answer)
			}
		})
	}
	all.Wait()
}
