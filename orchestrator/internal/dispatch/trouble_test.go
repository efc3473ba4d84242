package dispatch

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
)

// lines returns the lines of the log that contain a text.
func (c *capture) lines(with string) (found []string) {
	for line := range strings.Lines(c.text()) {
		if strings.Contains(line, with) {
			found = append(found, line)
		}
	}
	return found
}

func TestTroubles(t *testing.T) {
	const after, expiry = 30 * time.Second, time.Hour
	var start time.Time
	var all troubles
	one, other := troubledCommand{"sagas/a", "1"}, troubledCommand{"sagas/b", "1"}
	failed := func(what string, c troubledCommand, at time.Duration, sagas int, due bool) {
		t.Helper()
		said, logged := all.failed(c, start.Add(at), after, expiry)
		if logged != due || said.sagas != sagas {
			t.Errorf("%s: logged %t, %d sagas, want %t, %d", what, logged, said.sagas, due, sagas)
		}
	}
	failed("for the first time", one, 0, 1, false)
	failed("for less than the time", one, 29*time.Second, 1, false)
	failed("another one for the first time", other, 30*time.Second, 2, false)
	failed("for the time", one, 31*time.Second, 2, true)
	failed("soon again", one, 32*time.Second, 2, false)
	failed("the other one, for the time", other, 90*time.Second, 2, false)
	failed("now and then", other, 31*time.Second+warnInterval, 2, true)
	if all.ended(one) {
		t.Error("the log takes back what holds for another command")
	}
	if !all.ended(other) {
		t.Error("the log doesn't take it back")
	}
	failed("a new run", one, 2*time.Hour, 1, false)
	if all.ended(one) {
		t.Error("the log takes back what it hasn't said")
	}
	failed("one that isn't sent any more", one, 3*time.Hour, 1, false)
	failed("a later one", other, 5*time.Hour, 2, false)
	failed("counts alone", other, 5*time.Hour+after, 1, true)
}

// A participant answers INTERNAL to every command and to every undo. The log says so once for each method, with what
// somebody needs to find the cause, and again when commands are answered.
func TestFailingCommandsAreLogged(t *testing.T) {
	expectNoLeak(t)
	var healthy atomic.Bool
	s := serve(t, anyPort, func(_ context.Context, request []byte) ([]byte, error) {
		if healthy.Load() {
			return request, nil
		}
		return nil, status.Error(codes.Internal, "the disk is on fire")
	})
	log := &capture{}
	d := dispatcher(t, s.addr, func(c *testConfig) { c.Logger, c.troubledAfter = log.logger(), time.Nanosecond })
	undo := func(a *engine.Attempt) *engine.Attempt {
		a.Direction = engine.Compensation
		a.Call = &contract.CallConfig{Method: testService + "/Undo", Timeout: 10 * time.Second}
		return a
	}
	each := func() {
		for n := range 3 {
			for _, change := range []func(*engine.Attempt) *engine.Attempt{
				func(a *engine.Attempt) *engine.Attempt { return a }, undo,
			} {
				a := change(attempt())
				a.Saga = fmt.Sprintf("sagas/s%d", n)
				d.Attempt(t.Context(), a)
			}
		}
	}
	each()
	if log.has("level=") {
		t.Errorf("the first failure is logged:\n%s", log.text())
	}
	each()
	each()
	for method, direction := range map[string]string{testMethod: "action", testService + "/Undo": "compensation"} {
		lines := log.lines("method=" + method + " ")
		if len(lines) != 1 {
			t.Fatalf("%d lines about %s, want 1:\n%s", len(lines), method, log.text())
		}
		for _, want := range []string{
			"level=WARN", "participant=" + testService + " ", "target=" + s.addr + " ", "direction=" + direction + " ",
			"saga=sagas/s0 ", "sagas=3 ", "code=Internal ", `error="the disk is on fire"`,
		} {
			if !strings.Contains(lines[0], want) {
				t.Errorf("the line lacks %q: %s", want, lines[0])
			}
		}
	}
	healthy.Store(true)
	each()
	if back := log.lines("answered again"); len(back) != 2 {
		t.Errorf("%d lines say that commands are answered again, want 2:\n%s", len(back), log.text())
	}
}

// A command that isn't served is one fact: its sagas share one line, which says who should serve it.
func TestMisdeployedIsLoggedOnce(t *testing.T) {
	expectNoLeak(t)
	s := serve(t, anyPort, func(context.Context, []byte) ([]byte, error) {
		return nil, status.Error(codes.Unimplemented, "unknown method Do")
	})
	for name, test := range map[string]struct {
		change func(*engine.Attempt)
		want   []string
	}{
		"by the participant": {
			change: func(*engine.Attempt) {},
			want:   []string{"participant=" + testService + " ", "target=" + s.addr + " ", "unknown method Do"},
		},
		"by nobody": {
			change: func(a *engine.Attempt) { a.Call.Method = "acme.gone.v1.Gone/Do" },
			want:   []string{"method=acme.gone.v1.Gone/Do ", "--participant acme.gone.v1.Gone=HOST:PORT"},
		},
		"by nobody that the saga has named": {
			change: func(a *engine.Attempt) { a.Participant = "acme.gone.v1.Gone" },
			want:   []string{"participant=acme.gone.v1.Gone ", "--participant acme.gone.v1.Gone=HOST:PORT"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			log := &capture{}
			d := dispatcher(t, s.addr, func(c *testConfig) { c.Logger = log.logger() })
			for n := range 4 {
				a := attempt()
				a.Saga = fmt.Sprintf("sagas/s%d", n%2)
				test.change(a)
				if got := d.Attempt(t.Context(), a); got.Outcome != outcomeMisdeployed {
					t.Fatalf("got %v", got)
				}
			}
			lines := log.lines("level=ERROR")
			if len(lines) != 1 {
				t.Fatalf("%d lines, want 1:\n%s", len(lines), log.text())
			}
			for _, want := range append(test.want, "saga=sagas/s0 ", "step=3 ") {
				if !strings.Contains(lines[0], want) {
					t.Errorf("the line lacks %q: %s", want, lines[0])
				}
			}
		})
	}
}

// The log names the participant that is down, and what it serves.
func TestLogNamesWhoIsDown(t *testing.T) {
	expectNoLeak(t)
	s := serve(t, anyPort, echo)
	s.Stop()
	log := &capture{}
	d, err := New(Config{Logger: log.logger(), Participants: []Participant{
		{Services: []string{testService, "acme.test.v1.OtherService"}, Target: s.addr},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close(context.Background()) })
	d.Attempt(t.Context(), attempt())
	down := log.lines("participant is down")
	if len(down) != 1 || !strings.Contains(down[0], "participant="+testService+" ") ||
		!strings.Contains(down[0], "services="+testService+",acme.test.v1.OtherService ") ||
		!strings.Contains(down[0], "target="+s.addr+" ") || !strings.Contains(down[0], "connection refused") {
		t.Errorf("the log: %s", log.text())
	}
}

// TestLogSaysWhyTLSFails connects to participants whose TLS doesn't fit. They aren't down, and the log says what to
// correct.
func TestLogSaysWhyTLSFails(t *testing.T) {
	ours, theirs := testkit.NewAuthority(t), testkit.NewAuthority(t)
	encrypted := grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{ours.Issue(t, "").Certificate}, MinVersion: tls.VersionTLS12,
	}))
	trusting := func(authority *testkit.Authority) *tls.Config {
		return &tls.Config{RootCAs: authority.Pool, MinVersion: tls.VersionTLS12}
	}
	expired := trusting(ours)
	expired.Time = func() time.Time { return time.Now().AddDate(100, 0, 0) }
	for _, test := range []struct {
		name    string
		options []grpc.ServerOption
		tls     *tls.Config
		want    string
	}{
		{"plaintext to TLS", []grpc.ServerOption{encrypted}, nil, "it may require TLS"},
		{"TLS to plaintext", nil, trusting(ours), "it uses plaintext"},
		{"an unknown authority", []grpc.ServerOption{encrypted}, trusting(theirs), "an authority that isn't trusted"},
		{"an expired certificate", []grpc.ServerOption{encrypted}, expired, "has expired or isn't valid yet"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := serve(t, anyPort, echo, test.options...)
			log := &capture{}
			d := dispatcher(t, s.addr, func(c *testConfig) {
				c.Logger, c.Participants[0].TLS = log.logger(), test.tls
			})
			for len(log.lines("participant is down")) == 0 {
				d.Attempt(t.Context(), attempt())
			}
			if down := log.lines("participant is down")[0]; !strings.Contains(down, test.want) {
				t.Errorf("it doesn't say %q: %s", test.want, down)
			}
		})
	}
}

// TestLogSaysThatDescriptorsAreUsedUp fails to dial, again and again, because the process has no file descriptors left.
func TestLogSaysThatDescriptorsAreUsedUp(t *testing.T) {
	log := &capture{}
	l := &link{logger: log.logger(), target: "127.0.0.1:1"}
	err := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("socket", syscall.EMFILE)}
	for range 100 {
		l.failed(err)
	}
	if lines := log.lines("file descriptors"); len(lines) != 1 || !strings.Contains(lines[0], "target=127.0.0.1:1") {
		t.Errorf("the log: %s", log.text())
	}
	if got := l.why(); !strings.Contains(got, "this process has used up its file descriptors") {
		t.Errorf("it is dialled in vain because %q", got)
	}
	l.connected()
	if got := l.why(); got != "" {
		t.Errorf("with a connection, there is none because %q", got)
	}
}

// TestLogNamesWhoIsAbsent has a participant that isn't there when the orchestrator starts. No command is sent to it, so
// no breaker opens, and the log says so all the same.
func TestLogNamesWhoIsAbsent(t *testing.T) {
	expectNoLeak(t)
	s := serve(t, anyPort, echo)
	s.Stop()
	log := &capture{}
	told, _ := self()
	dispatcher(t, s.addr, func(c *testConfig) {
		c.Logger, c.Self, c.absentAfter = log.logger(), told, 50*time.Millisecond
	})
	await := func(line string) string {
		t.Helper()
		for len(log.lines(line)) == 0 {
			select {
			case <-time.After(time.Millisecond):
			case <-t.Context().Done():
				t.Fatalf("%q isn't logged: %s", line, log.text())
			}
		}
		return log.lines(line)[0]
	}
	down := await("participant is down")
	// A listener that has just been closed may reset a connection that it has not accepted.
	refused := strings.Contains(down, "connection refused") || strings.Contains(down, "connection reset")
	if !strings.Contains(down, "target="+s.addr+" ") || !refused {
		t.Errorf("the log: %s", log.text())
	}
	serve(t, s.addr, echo)
	await("participant is there")
	if n := len(log.lines("participant is down")); n != 1 {
		t.Errorf("it was logged %d times that the participant is down", n)
	}
}
