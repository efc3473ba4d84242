package dispatch

import (
	"bytes"
	"context"
	"log/slog"
	"net"
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

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
)

const broadcastService = "acme.privacy.v1.UserDataService"

// capture keeps what is logged and can wait for it.
type capture struct {
	mu     sync.Mutex
	buffer bytes.Buffer
	wrote  chan struct{}
}

func (c *capture) logger() *slog.Logger {
	c.wrote = make(chan struct{}, 1)
	return slog.New(slog.NewTextHandler(c, nil))
}

// Write keeps one record.
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

// lister is a participant that answers reflection by hand and every other call with its name.
type lister struct {
	reflectiongrpc.UnimplementedServerReflectionServer

	// services are what it says, fails what it fails with instead.
	services atomic.Pointer[[]string]
	fails    atomic.Pointer[status.Status]
	asked    chan struct{}

	addr   string
	server *grpc.Server
}

func newLister(services ...string) *lister {
	l := &lister{asked: make(chan struct{}, 1000)}
	l.services.Store(&services)
	return l
}

// ServerReflectionInfo answers one question.
func (l *lister) ServerReflectionInfo(stream reflectiongrpc.ServerReflection_ServerReflectionInfoServer) error {
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

// start serves at the address that it had before.
func (l *lister) start(t *testing.T) *lister {
	t.Helper()
	addr := l.addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	l.addr = listener.Addr().String()
	s := grpc.NewServer()
	reflectiongrpc.RegisterServerReflectionServer(s, l)
	l.server = s
	var done sync.WaitGroup
	done.Go(func() { _ = s.Serve(listener) })
	t.Cleanup(func() { s.Stop(); done.Wait() })
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

// awaitKnown asks as the engine does: again whenever it is woken.
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
			t.Fatal("never known")
		}
	}
}

func destination(name string) engine.Destination {
	return engine.Destination{Method: testMethod, Participant: name}
}

func TestDiscover(t *testing.T) {
	expectNoLeak(t)
	one := newLister("z.Last", broadcastService, "acme.one.v1.One").start(t)
	two := newLister("acme.two.v1.Two").start(t)
	three := newLister(broadcastService).start(t)
	d := discovering(t, &capture{},
		Participant{Services: []string{"acme.one.v1.One"}, Target: one.addr},
		Participant{Services: []string{"acme.two.v1.Two"}, Target: two.addr},
		Participant{Services: []string{"acme.a.v1.A", "acme.b.v1.B"}, Target: three.addr})
	if diff := cmp.Diff([]string{"acme.a.v1.A", "acme.one.v1.One"}, awaitKnown(t, d, broadcastService)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := awaitKnown(t, d, "acme.nobody.v1.Nobody"); len(got) != 0 {
		t.Errorf("nobody serves it, got %q", got)
	}
}

func TestDiscoverWithoutParticipants(t *testing.T) {
	expectNoLeak(t)
	d := discovering(t, &capture{})
	if found, _ := d.Discover(broadcastService, func() {}); !found.Known || len(found.Participants) != 0 {
		t.Errorf("got %+v", found)
	}
}

func TestDiscoverSwitchedOff(t *testing.T) {
	d := dispatcher(t, "127.0.0.1:1")
	if found, cancel := d.Discover(broadcastService, func() {}); found.Known || cancel == nil {
		t.Errorf("got %+v: a set that nobody knows must not pass for an empty one", found)
	}
}

// One that has never been up keeps the others waiting; when it is up it wakes them, and what it said holds while it is down again.
func TestDiscoverWaitsForEverybody(t *testing.T) {
	expectNoLeak(t)
	up := newLister(broadcastService).start(t)
	late := newLister(broadcastService).start(t)
	late.server.Stop()
	log := &capture{}
	d := discovering(t, log, Participant{Services: []string{"acme.up.v1.Up"}, Target: up.addr}, Participant{Services: []string{"acme.late.v1.Late"}, Target: late.addr})
	log.await(t, "can't be reached; broadcasts wait")

	woken := make(chan struct{})
	if found, _ := d.Discover(broadcastService, func() { close(woken) }); found.Known {
		t.Fatalf("known without the one that is down: %+v", found)
	}
	if found, cancel := d.Discover(broadcastService, func() {}); !slices.Contains(found.Silent, "acme.late.v1.Late") {
		t.Errorf("%+v lacks the silent one", found)
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

// Who was taken back isn't woken any more; who waits is woken once.
func TestDiscoverIsTakenBack(t *testing.T) {
	expectNoLeak(t)
	d := discover(nil, quiet, func() float64 { return 0 })
	d.mu.Lock()
	d.served["acme.one.v1.One"], d.silent = nil, 1
	d.mu.Unlock()
	takenBack := 0
	_, cancel := d.find(broadcastService, func() { takenBack++ })
	woken := make(chan struct{}, 2)
	d.find(broadcastService, func() { woken <- struct{}{} })
	cancel()
	d.answered("acme.one.v1.One", []string{})
	<-woken
	cancel() // again, and too late: nothing happens
	d.answered("acme.one.v1.One", []string{broadcastService})
	d.close()
	if takenBack != 0 || len(woken) != 0 {
		t.Errorf("woken %d times after it was taken back, %d times more than once", takenBack, len(woken))
	}
}

// A participant is asked again after a reconnect, and what it says then counts.
func TestDiscoverAgainAfterReconnect(t *testing.T) {
	expectNoLeak(t)
	l := newLister().start(t)
	d := discovering(t, &capture{}, Participant{Services: []string{"acme.one.v1.One"}, Target: l.addr})
	if got := awaitKnown(t, d, broadcastService); len(got) != 0 {
		t.Fatalf("got %q", got)
	}
	l.server.Stop()
	l.services.Store(&[]string{broadcastService})
	<-l.asked
	l.start(t)
	<-l.asked
	// It has been asked; the answer is on its way.
	for len(awaitKnown(t, d, broadcastService)) == 0 {
		if t.Context().Err() != nil {
			t.Fatal("the new answer never counted")
		}
	}
}

func TestDiscoverWithoutReflection(t *testing.T) {
	for _, test := range []struct {
		name string
		code codes.Code
		want string
	}{
		{"switched off", codes.Unimplemented, "switch gRPC server reflection"},
		{"failing", codes.Internal, "failed to say what it serves"},
	} {
		t.Run(test.name, func(t *testing.T) {
			expectNoLeak(t)
			l := newLister(broadcastService)
			l.fails.Store(status.New(test.code, "no"))
			l.start(t)
			log := &capture{}
			d := discovering(t, log, Participant{Services: []string{"acme.one.v1.One"}, Target: l.addr})
			<-l.asked
			<-l.asked
			if found, cancel := d.Discover(broadcastService, func() {}); found.Known {
				t.Errorf("known: %+v", found)
			} else {
				cancel()
			}
			if got := strings.Count(log.text(), test.want); got != 1 {
				t.Errorf("warned %d times of %q: %s", got, test.want, log.text())
			}
			l.fails.Store(nil)
			if got := awaitKnown(t, d, broadcastService); len(got) != 1 {
				t.Errorf("got %q", got)
			}
		})
	}
}

// An answer without bounds is refused, and so is one that isn't a list.
func TestDiscoverBoundsTheAnswer(t *testing.T) {
	expectNoLeak(t)
	l := newLister(strings.Repeat("x", listMaxBytes+1)).start(t)
	log := &capture{}
	d := discovering(t, log, Participant{Services: []string{"acme.one.v1.One"}, Target: l.addr})
	log.await(t, "larger than max")
	if found, _ := d.Discover(broadcastService, func() {}); found.Known {
		t.Error("known")
	}
}

// A broadcast's command goes to the participant that it names, whoever is configured for its service.
func TestAttemptToANamedParticipant(t *testing.T) {
	name := func(name string) handler {
		return func(context.Context, []byte) ([]byte, error) { return []byte(name), nil }
	}
	log := &capture{}
	d, err := New(Config{Logger: log.logger(), Participants: []Participant{
		{Services: []string{testService}, Target: serve(t, "", name("configured")).addr},
		{Services: []string{"acme.two.v1.Two", "acme.more.v1.More"}, Target: serve(t, "", name("two")).addr},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close(context.Background()) })
	for _, test := range []struct{ participant, want string }{
		{"", "configured"},
		{testService, "configured"},
		{"acme.two.v1.Two", "two"},
		{"acme.more.v1.More", "two"}, // the flags were given in another order then
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
	if got.Outcome != treatyv1.Outcome_OUTCOME_MISDEPLOYED || !strings.Contains(got.Failure.GetMessage(), "--participant acme.gone.v1.Gone=HOST:PORT") {
		t.Errorf("got %+v", got)
	}
	if _, parked := d.Parked(destination("acme.gone.v1.Gone"), func() {}); parked {
		t.Error("parked at nobody")
	}
}

func TestParkedAtANamedParticipant(t *testing.T) {
	down := serve(t, "", echo)
	down.Stop()
	d, err := New(Config{Logger: quiet, Participants: []Participant{
		{Services: []string{testService}, Target: serve(t, "", echo).addr},
		{Services: []string{"acme.down.v1.Down"}, Target: down.addr},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close(context.Background()) })
	call := attempt()
	call.Participant = "acme.down.v1.Down"
	d.Attempt(t.Context(), call)
	if _, parked := d.Parked(destination("acme.down.v1.Down"), func() {}); !parked {
		t.Error("not parked at the one that is down")
	}
	if _, parked := d.Parked(destination(""), func() {}); parked {
		t.Error("parked at the one that is up")
	}
}
