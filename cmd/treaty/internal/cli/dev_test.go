package cli

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/treatyhq/treaty/cmd/treaty/internal/dev"
	"github.com/treatyhq/treaty/cmd/treaty/internal/servertest"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

func TestDevUsage(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("wrong.yaml", []byte("processes:\n  - name: a\n    comand: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"no file":     {[]string{"dev"}, "treaty.dev.yaml: "},
		"two files":   {[]string{"dev", "a", "b"}, "doesn't take"},
		"unknown key": {[]string{"dev", "wrong.yaml"}, "wrong.yaml: line 3: the key comand is unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			got := run(t, setup{args: test.args})
			if got.code != 2 || !strings.Contains(got.stderr, test.want) {
				t.Errorf("exit code %d, %q; want 2 and %q", got.code, got.stderr, test.want)
			}
		})
	}
}

// TestDevQuits starts a process and quits.
func TestDevQuits(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f.yaml")
	if err := os.WriteFile(file, []byte("processes:\n  - name: a\n    command: sleep 1000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := run(t, setup{args: []string{"dev", file}, stdin: "r b\nq\n"})
	ended := strings.Contains(got.stdout, "all processes have ended")
	if got.code != 0 || !ended || strings.Contains(got.stdout, "\x1b") {
		t.Errorf("exit code %d:\n%s%s", got.code, got.stdout, got.stderr)
	}
}

// TestDevShowsNewEnds starts beside an orchestrator two of whose sagas have just ended. Those aren't shown.
func TestDevShowsNewEnds(t *testing.T) {
	f := servertest.New(t)
	f.Sagas = []*treatyv1.Saga{succeeded(t), compensated(t)}
	file := filepath.Join(t.TempDir(), "f.yaml")
	text := "orchestrator: " + f.Address + "\nprocesses:\n  - name: a\n    command: sleep 1000\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	stdin, typed := io.Pipe()
	go func() {
		lists := func() (n int) {
			for _, request := range f.Requests() {
				if _, is := request.(*treatyv1.ListSagasRequest); is {
					n++
				}
			}
			return n
		}
		for lists() < 3 && t.Context().Err() == nil { // the third one belongs to the second look
			<-time.After(10 * time.Millisecond)
		}
		_, _ = io.WriteString(typed, "q\n")
	}()
	var stdout, stderr buffer
	p := process(setup{args: []string{"dev", file}, address: f.Address}, &stdout, &stderr)
	p.Stdin = stdin
	code := Run(t.Context(), p)
	if got := stdout.String(); code != 0 || strings.Contains(got, "sagas/") {
		t.Errorf("exit code %d:\n%s%s", code, got, stderr.String())
	}
}

// besideDev runs f beside a process that "treaty dev" runs, with the sagas of a server, and returns what was printed.
func besideDev(t *testing.T, f *servertest.Server, beside func(context.Context, *ends)) string {
	t.Helper()
	var stdout, stderr buffer
	a := &app{Process: process(setup{address: f.Address}, &stdout, &stderr)}
	a.rootCommand() // registers the flags
	if err := a.connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer a.client.Close()
	config := &dev.Config{Processes: []dev.Process{
		{Name: "p", Command: dev.Command{"sleep", "1000"}, Dir: t.TempDir()},
	}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := dev.Run(ctx, dev.Params{Config: config, Stdin: strings.NewReader(""), Stdout: &stdout,
		Beside: func(ctx context.Context, out *dev.Output) {
			defer cancel()
			beside(ctx, newEnds(a, out))
		}}); err != nil {
		t.Fatal(err)
	}
	return stdout.String()
}

// TestTimelines prints whole timelines of a few sagas, a line for each of some, and a count of more. It prints none
// twice.
func TestTimelines(t *testing.T) {
	for _, test := range []struct {
		sagas, timelines, standings int
		count                       string
	}{
		{sagas: 1, timelines: 1},
		{sagas: 3, timelines: 3},
		{sagas: 4, standings: 4},
		{sagas: 20, standings: 20},
		{sagas: 21, standings: 20, count: "and 1 saga more"},
		{sagas: 45, standings: 20, count: "and 25 sagas more"},
	} {
		t.Run(strconv.Itoa(test.sagas), func(t *testing.T) {
			f := servertest.New(t)
			f.PageSize = 1000
			for i := range test.sagas {
				saga := succeeded(t)
				saga.Name, saga.UpdateTime = "sagas/order-"+strconv.Itoa(i), at(91*time.Second)
				f.Sagas = append(f.Sagas, saga)
			}
			before := succeeded(t) // it has ended before dev was started
			before.Name, before.UpdateTime = "sagas/before", at(89*time.Second)
			f.Sagas = append(f.Sagas, before)
			got := besideDev(t, f, func(ctx context.Context, e *ends) {
				e.poll(ctx)
				e.poll(ctx)
			})
			whole := strings.Count(got, "shop.v1.PaymentService/Capture")
			standings := strings.Count(got, "sagas/order-") - whole
			if whole != test.timelines || standings != test.standings || strings.Contains(got, "sagas/before") {
				t.Errorf("printed %d timelines and %d lines, want %d and %d:\n%s", whole, standings, test.timelines,
					test.standings, got)
			}
			more := strings.Contains(got, " more\n")
			if more != (test.count != "") || !strings.Contains(got, test.count) {
				t.Errorf("the count isn't %q:\n%s", test.count, got)
			}
		})
	}
}

// TestObstaclesInDev says once what keeps a saga, such as a participant that nobody serves, and again if it comes back.
func TestObstaclesInDev(t *testing.T) {
	saga := running(t)
	stuck := saga.GetSteps()[1].GetAttempts()
	stuck.LastOutcome = "misdeployed"
	stuck.LastFailure = &treatyv1.Failure{Code: int32(codes.Unavailable), Message: "no participant is configured"}
	f := servertest.New(t)
	f.Sagas = []*treatyv1.Saga{saga}
	const want = "sagas/order-3/steps/2 waits: no participant serves shop.v1.PaymentService/Capture: " +
		"UNAVAILABLE: no participant is configured\n"
	got := besideDev(t, f, func(ctx context.Context, e *ends) {
		e.obstacles(ctx)
		e.obstacles(ctx)
	})
	if strings.Count(got, want) != 1 {
		t.Errorf("want once %q:\n%s", want, got)
	}
	got = besideDev(t, f, func(ctx context.Context, e *ends) {
		for _, outcome := range []string{"misdeployed", "done", "misdeployed"} {
			stuck.LastOutcome = outcome
			e.obstacles(ctx)
		}
	})
	if strings.Count(got, want) != 2 {
		t.Errorf("want twice %q:\n%s", want, got)
	}
	list := servertest.Last[*treatyv1.ListSagasRequest](t, f)
	if before := began.Add(90*time.Second - devStuck).Format(time.RFC3339Nano); !strings.Contains(list.GetFilter(),
		"update_time < "+strconv.Quote(before)) {
		t.Errorf("asked for %s, want those that haven't changed since %s", list.GetFilter(), before)
	}
}
