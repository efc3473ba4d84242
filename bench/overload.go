package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	benchv1 "github.com/treatyhq/treaty/gen/bench/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// overloadReport is what became of many sagas that were due at the same moment.
type overloadReport struct {
	Sagas     int     `json:"sagas"`
	Capacity  float64 `json:"capacity_per_s"` // of the participant
	Outage    bool    `json:"outage"`         // the participant was down until after they were due
	Goodput   float64 `json:"sagas_per_s"`    // from when they were due and it was up until the last one ended
	Calls     int     `json:"calls"`          // that the participant executed
	Repeated  float64 `json:"repeated_percent"`
	PeakRSSMB float64 `json:"peak_rss_mb"` // of the orchestrator
}

// limitedWork is a participant that executes commands one after the other, each in the same time. It neither notices
// that its caller has given up, nor that it has executed a command before.
type limitedWork struct {
	work

	each  time.Duration
	calls atomic.Int64

	mu   sync.Mutex
	free time.Time // when all commands that have arrived are executed
}

func newLimitedWork(perSecond float64) *limitedWork {
	return &limitedWork{each: time.Duration(float64(time.Second) / perSecond)}
}

// Work does one step when all that arrived before are done.
func (l *limitedWork) Work(_ context.Context, in *benchv1.WorkRequest) (*benchv1.WorkDone, error) {
	l.mu.Lock()
	if now := time.Now(); l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(l.each)
	done := l.free
	l.mu.Unlock()
	<-time.After(time.Until(done))
	l.calls.Add(1)
	return l.work.Work(context.Background(), in)
}

// outageAfterDue is how long the participant stays down after the sagas were due, with --outage.
const outageAfterDue = 10 * time.Second

// overload makes sagas of one step due at the same moment, and waits until all have ended.
func overload(ctx context.Context, o options, out, progress io.Writer) error {
	dir, err := os.MkdirTemp("", "treaty-bench-")
	if err != nil {
		return fmt.Errorf("making a directory for the databases: %w", err)
	}
	defer os.RemoveAll(dir)
	address, err := unusedAddress()
	if err != nil {
		return err
	}
	calls := filepath.Join(dir, "calls")
	all := newChildren(ctx)
	defer all.end()
	startParticipant := func() (*process, error) {
		return all.start(nil, "participant", "--listen", address, "--capacity", fmt.Sprint(o.Capacity),
			"--calls", calls)
	}
	var participant *process
	if !o.Outage {
		if participant, err = startParticipant(); err != nil {
			return err
		}
	}
	treaty, err := all.start(nil, "treaty", "--participant", address, "--store", filepath.Join(dir, "treaty.db"))
	if err != nil {
		return err
	}
	client, closeConn, err := dialSagas(treaty.address)
	if err != nil {
		return err
	}
	defer closeConn()
	r := &overloadReport{Sagas: o.Overload, Capacity: o.Capacity, Outage: o.Outage}
	due := time.Now().Add(overloadDelay(o)).Truncate(time.Second)
	untilDue := func() time.Duration { return time.Until(due) }
	if err := startAll(all.ctx, client, o.InFlight, o.Overload, untilDue); err != nil {
		return all.why(err)
	}
	fmt.Fprintf(progress, "%d sagas are due in %s\n", o.Overload, time.Until(due).Round(time.Second))
	if o.Outage {
		due = due.Add(outageAfterDue)
		select {
		case <-time.After(time.Until(due)):
		case <-all.ctx.Done():
			return all.why(fmt.Errorf("waiting until the sagas are due: %w", all.ctx.Err()))
		}
		if participant, err = startParticipant(); err != nil {
			return err
		}
	}
	if err := awaitNoneOpen(all.ctx, client, due, progress); err != nil {
		return all.why(err)
	}
	r.Goodput = float64(o.Overload) / time.Since(due).Seconds()
	if r.PeakRSSMB, err = treaty.memory("VmHWM:"); err != nil {
		return err
	}
	if err := treaty.stop(); err != nil {
		return err
	}
	if err := participant.stop(); err != nil {
		return err
	}
	counted, err := os.ReadFile(calls)
	if err != nil {
		return fmt.Errorf("reading how many calls there were: %w", err)
	}
	if r.Calls, err = strconv.Atoi(strings.TrimSpace(string(counted))); err != nil {
		return fmt.Errorf("reading how many calls there were: %w", err)
	}
	r.Repeated = 100 * float64(r.Calls-r.Sagas) / float64(r.Sagas)
	if o.JSON {
		return json.NewEncoder(out).Encode(r)
	}
	_, err = fmt.Fprintf(out, "%d sagas due at once at a participant that does %.0f a second: %.0f a second ended, "+
		"%d calls (%.1f%% repeated), at most %.0f MB resident\n",
		r.Sagas, r.Capacity, r.Goodput, r.Calls, r.Repeated, r.PeakRSSMB)
	return err
}

// unusedAddress returns an address of loopback on which nothing listens.
func unusedAddress() (string, error) {
	listener, err := net.Listen("tcp", freePort)
	if err != nil {
		return "", fmt.Errorf("looking for a free port: %w", err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		return "", fmt.Errorf("looking for a free port: %w", err)
	}
	return address, nil
}

// overloadDelay is how long it takes to start the sagas, generously.
func overloadDelay(o options) time.Duration {
	return 10*time.Second + time.Duration(o.Overload)*time.Millisecond
}

// awaitNoneOpen waits until no saga is running.
func awaitNoneOpen(ctx context.Context, client treatyv1.SagaServiceClient, due time.Time, progress io.Writer) error {
	for wait := time.Until(due); ; wait = time.Second {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return fmt.Errorf("waiting for the sagas: %w", ctx.Err())
		}
		page, err := client.ListSagas(ctx, &treatyv1.ListSagasRequest{Filter: `state = "RUNNING"`, PageSize: 1})
		if err != nil {
			return fmt.Errorf("looking for open sagas: %w", err)
		}
		if len(page.GetSagas()) == 0 {
			return nil
		}
		if s := int(time.Since(due).Seconds()); s%30 == 0 {
			fmt.Fprintf(progress, "some are open %d s after they were due\n", s)
		}
	}
}
