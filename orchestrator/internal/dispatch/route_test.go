package dispatch

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/reflection"

	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
)

const broadcastService = "acme.privacy.v1.UserDataService"

// capture records a log.
type capture struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (c *capture) logger() *slog.Logger { return slog.New(slog.NewTextHandler(c, nil)) }

// Write records a line.
func (c *capture) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.buffer.Write(p)
}

func (c *capture) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.buffer.String()
}

func (c *capture) has(what string) bool { return strings.Contains(c.text(), what) }

func destination(name string) engine.Destination {
	return engine.Destination{Method: testMethod, Participant: name}
}

// The configuration says who takes part in a broadcast: not the participants, whether or not they can be reached, have
// reflection, or serve the broadcast's service.
func TestTakingPart(t *testing.T) {
	expectNoLeak(t)
	serves := grpc.NewServer() // a service by reflection for which it isn't configured
	serves.RegisterService(&grpc.ServiceDesc{ServiceName: broadcastService, HandlerType: (*any)(nil)}, nil)
	reflection.Register(serves)
	address := testkit.Serve(t, serves)
	down := testkit.UnusedAddress(t)
	d, err := New(Config{Logger: quiet, Participants: []Participant{
		{Services: []string{"acme.serves.v1.Serves"}, Target: address},
		{Services: []string{"acme.down.v1.Down"}, Target: down},
		{Services: []string{"acme.two.v1.Two"}, Broadcasts: []string{broadcastService}, Target: down},
		{Services: []string{"acme.one.v1.One", "acme.more.v1.More"}, Target: serve(t, anyPort, echo).addr,
			Broadcasts: []string{"acme.other.v1.Other", broadcastService}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close(context.Background()) })
	for service, want := range map[string][]string{
		broadcastService:      {"acme.one.v1.One", "acme.two.v1.Two"},
		"acme.other.v1.Other": {"acme.one.v1.One"},
		"acme.down.v1.Down":   nil,
	} {
		if diff := cmp.Diff(want, d.TakingPart(service)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", service, diff)
		}
	}
	call := attempt()
	call.Participant, call.Call.Method = "acme.one.v1.One", broadcastService+"/DeleteUserData"
	if got := d.Attempt(t.Context(), call); got.Outcome != outcomeDone {
		t.Errorf("a broadcast to one of them: %+v", got)
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
