package cli

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/treatyhq/treaty/cmd/treaty/internal/servertest"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// noticing is a buffer that tells of each write.
type noticing struct {
	buffer

	written chan struct{}
}

func (n *noticing) Write(p []byte) (int, error) {
	defer func() {
		select {
		case n.written <- struct{}{}:
		default:
		}
	}()
	return n.buffer.Write(p)
}

// TestProgress holds each call to the orchestrator until stderr has said what the command is doing.
func TestProgress(t *testing.T) {
	cancelAll := []string{"sagas", "cancel", "--filter", `labels.customer = "c-7"`, "--reason", "compared", "--yes"}
	decided := []string{"waiting for ", "listing the sagas, 2 so far", "cancelling 0 of 4 sagas, 0 failed",
		"cancelling 1 of 4 sagas, 0 failed", "cancelling 2 of 4 sagas, 1 failed", "cancelling 3 of 4 sagas, 1 failed"}
	for name, test := range map[string]struct {
		args     []string
		terminal bool
		want     []string // what is said before each call goes on
		silent   bool     // nothing is said, and no call is held
	}{
		"list": {args: []string{"sagas", "list", "--all"},
			want: []string{"waiting for ", "listing sagas, 2 so far"}},
		"lost": {args: []string{"sagas", "lost", "--all"},
			want: []string{"waiting for ", "listing lost sagas, 2 so far"}},
		"get":       {args: []string{"sagas", "get", "restored-1"}, want: []string{"waiting for "}},
		"start":     {args: []string{"start", placeOrder, "--data", "{}"}, want: []string{"waiting for "}},
		"cancel":    {args: cancelAll, want: decided},
		"terminal":  {args: cancelAll, want: decided, terminal: true},
		"json":      {args: append(cancelAll[:7:7], "--json"), silent: true},
		"json, too": {args: append(cancelAll[:7:7], "--json"), want: decided, terminal: true},
		"suggested": {args: []string{"__complete", "sagas", "get", ""}, silent: true},
	} {
		t.Run(name, func(t *testing.T) {
			f := servertest.New(t)
			for _, id := range []string{"restored-1", "restored-2", "restored-3", "restored-4"} {
				f.Sagas = append(f.Sagas, suspended(t, id, treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED))
			}
			f.Lost = lost()
			f.FailFor = map[string]error{"sagas/restored-2": failure(t, codes.FailedPrecondition, "past its pivot")}
			f.Hold = make(chan struct{})
			s := setup{args: test.args, address: f.Address, patience: time.Millisecond, terminal: test.terminal}
			stderr := &noticing{written: make(chan struct{}, 1)}
			var stdout buffer
			p := process(s, &stdout, &stderr.buffer)
			p.Stderr = stderr
			ended := make(chan int, 1)
			go func() { ended <- Run(t.Context(), p) }()
			seen := 0
			for _, want := range test.want {
				for !strings.Contains(stderr.String()[seen:], want) {
					<-stderr.written
				}
				seen += strings.Index(stderr.String()[seen:], want) + len(want)
				f.Hold <- struct{}{}
			}
			if test.silent {
				// Some of the waits between two lines pass.
				<-time.After(50 * time.Millisecond)
				close(f.Hold)
			}
			<-ended
			if test.silent && strings.Contains(stderr.String(), "waiting for") {
				t.Errorf("stderr says what is done:\n%s", stderr.String())
			}
			if whole := stdout.String(); strings.Contains(whole, "\r") || strings.Contains(whole, "so far") {
				t.Errorf("stdout has the line:\n%s", whole)
			}
			if !test.terminal && strings.Contains(stderr.String(), "\r") {
				t.Errorf("a line is rewritten in a file:\n%q", stderr.String())
			}
		})
	}
}

// TestProgressOfWait waits for a saga until stderr has said so.
func TestProgressOfWait(t *testing.T) {
	for name, args := range map[string][]string{
		"wait": {"sagas", "wait", "order-3"}, "watch": {"sagas", "watch", "order-3"},
	} {
		t.Run(name, func(t *testing.T) {
			f := servertest.New(t)
			begin, end := running(t), succeeded(t)
			end.Name, end.UpdateTime = begin.GetName(), at(ms(900))
			f.Sagas = []*treatyv1.Saga{begin}
			goOn := make(chan struct{})
			f.Streams = []servertest.Stage{{Sagas: []*treatyv1.Saga{begin, end}, Until: goOn}}
			stderr := &noticing{written: make(chan struct{}, 1)}
			var stdout buffer
			p := process(setup{args: args, address: f.Address, patience: time.Millisecond}, &stdout, &stderr.buffer)
			p.Stderr = stderr
			ended := make(chan int, 1)
			go func() { ended <- Run(t.Context(), p) }()
			for !strings.Contains(stderr.String(), "waiting for sagas/order-3, which is RUNNING: ") {
				<-stderr.written
			}
			close(goOn)
			if code := <-ended; code != 0 {
				t.Errorf("exit %d, stderr %q", code, stderr.String())
			}
		})
	}
}
