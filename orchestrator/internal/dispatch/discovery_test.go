package dispatch

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	reflectiongrpc "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
)

const broadcastService = "acme.privacy.v1.UserDataService"

// capture records a log and can wait for a line.
type capture struct {
	mu     sync.Mutex
	buffer bytes.Buffer
	wrote  chan struct{}
}

func (c *capture) logger() *slog.Logger {
	c.wrote = make(chan struct{}, 1)
	return slog.New(slog.NewTextHandler(c, nil))
}

// Write records a line.
func (c *capture) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case c.wrote <- struct{}{}:
	default:
	}
	return c.buffer.Write(p)
}

func (c *capture) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.buffer.String()
}

func (c *capture) has(what string) bool { return strings.Contains(c.text(), what) }

func (c *capture) await(t *testing.T, what string) {
	t.Helper()
	for !c.has(what) {
		select {
		case <-c.wrote:
		case <-t.Context().Done():
			t.Fatalf("%q was never logged; got %s", what, c.text())
		}
	}
}

// reflectionServer is a participant that only serves reflection.
type reflectionServer struct {
	reflectiongrpc.UnimplementedServerReflectionServer

	// services are what it answers. fails, if set, is the error that it returns instead.
	services atomic.Pointer[[]string]
	fails    atomic.Pointer[status.Status]
	asked    chan struct{}

	addr   string
	server *grpc.Server
}

func newReflectionServer(services ...string) *reflectionServer {
	l := &reflectionServer{asked: make(chan struct{}, 1000), addr: anyPort}
	l.services.Store(&services)
	return l
}

// ServerReflectionInfo answers one request.
func (l *reflectionServer) ServerReflectionInfo(
	stream reflectiongrpc.ServerReflection_ServerReflectionInfoServer,
) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	l.asked <- struct{}{}
	if s := l.fails.Load(); s != nil {
		return s.Err()
	}
	list := &reflectiongrpc.ListServiceResponse{}
	for _, name := range *l.services.Load() {
		list.Service = append(list.Service, &reflectiongrpc.ServiceResponse{Name: name})
	}
	return stream.Send(&reflectiongrpc.ServerReflectionResponse{
		MessageResponse: &reflectiongrpc.ServerReflectionResponse_ListServicesResponse{ListServicesResponse: list},
	})
}

// start serves, the second time at the same address.
func (l *reflectionServer) start(t *testing.T) *reflectionServer {
	t.Helper()
	l.server = grpc.NewServer()
	reflectiongrpc.RegisterServerReflectionServer(l.server, l)
	l.addr = testkit.ServeOn(t, l.server, l.addr)
	return l
}

func discovering(t *testing.T, log *capture, participants ...Participant) *Dispatcher {
	t.Helper()
	d, err := New(Config{Participants: participants, Logger: log.logger(), Discovery: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close(context.Background()) })
	return d
}

// awaitKnown does what the engine does: it asks again whenever it is woken.
func awaitKnown(t *testing.T, d *Dispatcher, service string) []string {
	t.Helper()
	for {
		woken := make(chan struct{})
		found, cancel := d.Discover(service, func() { close(woken) })
		if found.Known {
			cancel()
			return found.Participants
		}
		select {
		case <-woken:
		case <-t.Context().Done():
			t.Fatal("not every participant answered")
		}
	}
}

func destination(name string) engine.Destination {
	return engine.Destination{Method: testMethod, Participant: name}
}

func TestDiscover(t *testing.T) {
	expectNoLeak(t)
	one := newReflectionServer("z.Last", broadcastService, "acme.one.v1.One").start(t)
	two := newReflectionServer("acme.two.v1.Two").start(t)
	three := newReflectionServer(broadcastService).start(t)
	d := discovering(t, &capture{},
		Participant{Services: []string{"acme.one.v1.One"}, Target: one.addr},
		Participant{Services: []string{"acme.two.v1.Two"}, Target: two.addr},
		Participant{Services: []string{"acme.a.v1.A", "acme.b.v1.B"}, Target: three.addr})
	if diff := cmp.Diff([]string{"acme.a.v1.A", "acme.one.v1.One"}, awaitKnown(t, d, broadcastService)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := awaitKnown(t, d, "acme.unserved.v1.Unserved"); len(got) != 0 {
		t.Errorf("got %q for a service that no participant serves", got)
	}
}

func TestDiscoverWithoutParticipants(t *testing.T) {
	expectNoLeak(t)
	d := discovering(t, &capture{})
	if found, _ := d.Discover(broadcastService, func() {}); !found.Known || len(found.Participants) != 0 {
		t.Errorf("got %+v", found)
	}
}

func TestDiscoverNotConfigured(t *testing.T) {
	d := dispatcher(t, "127.0.0.1:1")
	if found, cancel := d.Discover(broadcastService, func() {}); found.Known || cancel == nil {
		t.Errorf("got %+v, want Known false", found)
	}
}

// A broadcast waits for a participant that has never been up. The answer of that participant holds while it is down
// again.
func TestDiscoverWaitsForEveryParticipant(t *testing.T) {
	expectNoLeak(t)
	up := newReflectionServer(broadcastService).start(t)
	late := newReflectionServer(broadcastService).start(t)
	late.server.Stop()
	log := &capture{}
	d := discovering(t, log,
		Participant{Services: []string{"acme.up.v1.Up"}, Target: up.addr},
		Participant{Services: []string{"acme.late.v1.Late"}, Target: late.addr})
	log.await(t, "can't be reached; broadcasts wait")

	woken := make(chan struct{})
	if found, _ := d.Discover(broadcastService, func() { close(woken) }); found.Known {
		t.Fatalf("Known is true while a participant has never answered: %+v", found)
	}
	if found, cancel := d.Discover(broadcastService, func() {}); !slices.Contains(found.Unanswered,
		"acme.late.v1.Late") {
		t.Errorf("%+v lacks the participant that has never answered", found)
	} else {
		cancel()
	}
	<-up.asked
	late.start(t)
	both := []string{"acme.late.v1.Late", "acme.up.v1.Up"}
	if diff := cmp.Diff(both, awaitKnown(t, d, broadcastService)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	<-woken
	late.server.Stop()
	if diff := cmp.Diff(both, awaitKnown(t, d, broadcastService)); diff != "" {
		t.Errorf("while it is down (-want +got):\n%s", diff)
	}
}

// A wake function is called once, and not at all after it was cancelled.
func TestDiscoverIsCancelled(t *testing.T) {
	expectNoLeak(t)
	d := newDiscovery(nil, quiet, func() float64 { return 0 })
	d.mu.Lock()
	d.served["acme.one.v1.One"], d.unanswered = nil, 1
	d.mu.Unlock()
	afterCancel := 0
	_, cancel := d.find(broadcastService, func() { afterCancel++ })
	woken := make(chan struct{}, 2)
	d.find(broadcastService, func() { woken <- struct{}{} })
	cancel()
	d.setServices("acme.one.v1.One", []string{})
	<-woken
	cancel() // has no effect
	d.setServices("acme.one.v1.One", []string{broadcastService})
	d.close()
	if afterCancel != 0 || len(woken) != 0 {
		t.Errorf("one was called %d times after its cancel, the other %d times too often", afterCancel, len(woken))
	}
}

// A participant is asked again after a reconnect.
func TestDiscoverAgainAfterReconnect(t *testing.T) {
	expectNoLeak(t)
	l := newReflectionServer().start(t)
	d := discovering(t, &capture{}, Participant{Services: []string{"acme.one.v1.One"}, Target: l.addr})
	if got := awaitKnown(t, d, broadcastService); len(got) != 0 {
		t.Fatalf("got %q", got)
	}
	l.server.Stop()
	l.services.Store(&[]string{broadcastService})
	<-l.asked
	l.start(t)
	<-l.asked
	// The answer may still be in flight.
	for len(awaitKnown(t, d, broadcastService)) == 0 {
		if t.Context().Err() != nil {
			t.Fatal("the new answer has no effect")
		}
	}
}

func TestDiscoverWithoutReflection(t *testing.T) {
	for _, test := range []struct {
		name string
		code codes.Code
		want string
	}{
		{"disabled", codes.Unimplemented, "enable gRPC server reflection"},
		{"failing", codes.Internal, "failed to say what it serves"},
	} {
		t.Run(test.name, func(t *testing.T) {
			expectNoLeak(t)
			l := newReflectionServer(broadcastService)
			l.fails.Store(status.New(test.code, "no"))
			l.start(t)
			log := &capture{}
			d := discovering(t, log, Participant{Services: []string{"acme.one.v1.One"}, Target: l.addr})
			<-l.asked
			<-l.asked
			if found, cancel := d.Discover(broadcastService, func() {}); found.Known {
				t.Errorf("Known is true: %+v", found)
			} else {
				cancel()
			}
			if got := strings.Count(log.text(), test.want); got != 1 {
				t.Errorf("%d warnings of %q, want 1: %s", got, test.want, log.text())
			}
			l.fails.Store(nil)
			if got := awaitKnown(t, d, broadcastService); len(got) != 1 {
				t.Errorf("got %q", got)
			}
		})
	}
}

// An answer that is too large counts as none.
func TestDiscoverLimitsTheAnswer(t *testing.T) {
	expectNoLeak(t)
	l := newReflectionServer(strings.Repeat("x", maxListBytes+1)).start(t)
	log := &capture{}
	d := discovering(t, log, Participant{Services: []string{"acme.one.v1.One"}, Target: l.addr})
	log.await(t, "larger than max")
	if found, _ := d.Discover(broadcastService, func() {}); found.Known {
		t.Error("Known is true")
	}
}

// A broadcast's command goes to the participant that it names, not to the one that is configured for its service.
func TestAttemptToANamedParticipant(t *testing.T) {
	name := func(name string) handler {
		return func(context.Context, []byte) ([]byte, error) { return []byte(name), nil }
	}
	log := &capture{}
	d, err := New(Config{Logger: log.logger(), Participants: []Participant{
		{Services: []string{testService}, Target: serve(t, anyPort, name("configured")).addr},
		{Services: []string{"acme.two.v1.Two", "acme.more.v1.More"}, Target: serve(t, anyPort, name("two")).addr},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close(context.Background()) })
	for _, test := range []struct{ participant, want string }{
		{"", "configured"},
		{testService, "configured"},
		{"acme.two.v1.Two", "two"},
		{"acme.more.v1.More", "two"}, // the name before the order of the flags changed
	} {
		call := attempt()
		call.Participant = test.participant
		if got := d.Attempt(t.Context(), call); string(got.Reply) != test.want {
			t.Errorf("%q: got %+v, want %q", test.participant, got, test.want)
		}
	}
	call := attempt()
	call.Participant = "acme.gone.v1.Gone"
	got := d.Attempt(t.Context(), call)
	const advice = "--participant acme.gone.v1.Gone=HOST:PORT"
	if got.Outcome != outcomeMisdeployed || !strings.Contains(got.Failure.GetMessage(), advice) {
		t.Errorf("got %+v", got)
	}
	if waits(d, destination("acme.gone.v1.Gone")) {
		t.Error("the call waits for no participant")
	}
}

func TestParkedAtANamedParticipant(t *testing.T) {
	down := serve(t, anyPort, echo)
	down.Stop()
	d, err := New(Config{Logger: quiet, Participants: []Participant{
		{Services: []string{testService}, Target: serve(t, anyPort, echo).addr},
		{Services: []string{"acme.down.v1.Down"}, Target: down.addr},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close(context.Background()) })
	call := attempt()
	call.Participant = "acme.down.v1.Down"
	d.Attempt(t.Context(), call)
	if !waits(d, destination("acme.down.v1.Down")) {
		t.Error("the call doesn't wait for the participant that is down")
	}
	if waits(d, destination("")) {
		t.Error("the call waits for the participant that is up")
	}
}
