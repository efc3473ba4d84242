package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/anypb"

	benchv1 "github.com/treatyhq/treaty/gen/bench/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

const (
	// longSleep is longer than any measurement.
	longSleep = 30 * 24 * time.Hour

	// shortSleep is how long one more saga sleeps, across the restart, to show that sleeping sagas wake.
	shortSleep = 10 * time.Second

	// settling is how long a process idles before its memory is read, so that it returns memory that it no longer
	// needs.
	settling = 10 * time.Second
)

// sleepReport is the cost of sleeping sagas. Memory is the orchestrator's resident set.
type sleepReport struct {
	Sleeping  int     `json:"sleeping"`
	RSSEmpty  float64 `json:"rss_empty_mb"`        // of a process with an empty store
	RSS       float64 `json:"rss_mb"`              // of a process that was started while they were asleep
	RSSLoaded float64 `json:"rss_after_starts_mb"` // of the process that took all their starts, a while later
	Restart   float64 `json:"restart_s"`           // from the start of the process until it serves and has recovered
	Starts    float64 `json:"starts_per_s"`
	Bytes     float64 `json:"bytes_per_saga"`
	WokeLate  float64 `json:"woke_late_ms"` // how late a saga woke whose sleep ended after the restart
}

// sleep puts sagas to sleep and reads what they cost.
func sleep(ctx context.Context, o options, out, progress io.Writer) error {
	dir, err := os.MkdirTemp("", "treaty-bench-")
	if err != nil {
		return fmt.Errorf("making a directory for the databases: %w", err)
	}
	defer os.RemoveAll(dir)
	all := newChildren(ctx)
	defer all.end()
	participant, err := all.start(nil, "participant")
	if err != nil {
		return err
	}
	args := []string{"treaty", "--participant", participant.address, "--store", filepath.Join(dir, "treaty.db")}
	r := &sleepReport{Sleeping: o.Sleeping}
	if err := r.fill(all, o, args, progress); err != nil {
		return all.why(err)
	}
	if err := r.restart(all, args, dir, progress); err != nil {
		return all.why(err)
	}
	if o.JSON {
		return json.NewEncoder(out).Encode(r)
	}
	_, err = fmt.Fprintf(out, "%d sagas asleep: %.0f MB resident against %.0f MB with none (%.0f MB in the process "+
		"that took their starts, %.0f a second); "+
		"serving again %.2f s after a restart; %.0f bytes on disk each; one that woke after the restart was %.0f ms "+
		"late\n",
		r.Sleeping, r.RSS, r.RSSEmpty, r.RSSLoaded, r.Starts, r.Restart, r.Bytes, r.WokeLate)
	return err
}

// fill starts the sagas.
func (r *sleepReport) fill(all *children, o options, args []string, progress io.Writer) error {
	ctx := all.ctx
	treaty, err := all.start(nil, args...)
	if err != nil {
		return err
	}
	if r.RSSEmpty, err = treaty.settled(ctx); err != nil {
		return err
	}
	client, closeConn, err := dialSagas(treaty.address)
	if err != nil {
		return err
	}
	defer closeConn()
	began := time.Now()
	if err := startAll(ctx, client, o.InFlight, o.Sleeping, func() time.Duration { return longSleep }); err != nil {
		return err
	}
	r.Starts = float64(o.Sleeping) / time.Since(began).Seconds()
	if r.RSSLoaded, err = treaty.settled(ctx); err != nil {
		return err
	}
	fmt.Fprintf(progress, "%d sagas are asleep; restarting\n", o.Sleeping)
	return treaty.stop()
}

// restart starts the orchestrator again while they sleep.
func (r *sleepReport) restart(all *children, args []string, dir string, progress io.Writer) error {
	ctx := all.ctx
	treaty, err := all.start(nil, args...)
	if err != nil {
		return err
	}
	client, closeConn, err := dialSagas(treaty.address)
	if err != nil {
		return err
	}
	wakes := time.Now().Add(shortSleep)
	name, err := createAsleep(ctx, client, shortSleep, "short")
	if err != nil {
		return err
	}
	closeConn()
	if err := treaty.stop(); err != nil {
		return err
	}
	began := time.Now()
	if treaty, err = all.start(nil, args...); err != nil {
		return err
	}
	r.Restart = time.Since(began).Seconds()
	if client, closeConn, err = dialSagas(treaty.address); err != nil {
		return err
	}
	defer closeConn()
	fmt.Fprintf(progress, "serving again after %.2f s\n", r.Restart)
	if _, err := client.WaitSaga(ctx, &treatyv1.WaitSagaRequest{Name: name}); err != nil {
		return fmt.Errorf("waiting for a saga to wake: %w", err)
	}
	r.WokeLate = milliseconds(time.Since(wakes))
	if r.RSS, err = treaty.settled(ctx); err != nil {
		return err
	}
	if err := treaty.stop(); err != nil {
		return err
	}
	bytes, err := sizeOf(filepath.Join(dir, "treaty.db*"))
	r.Bytes = float64(bytes) / float64(r.Sleeping)
	return err
}

// dial returns a client of a service at a target, and a function that closes its connection.
func dial[C any](target string, client func(grpc.ClientConnInterface) C) (c C, closeConn func(), err error) {
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return c, nil, fmt.Errorf("connecting to %s: %w", target, err)
	}
	return client(conn), func() { _ = conn.Close() }, nil
}

func dialSagas(target string) (treatyv1.SagaServiceClient, func(), error) {
	return dial(target, treatyv1.NewSagaServiceClient)
}

// startAll starts sagas that sleep, many at once.
func startAll(
	ctx context.Context, client treatyv1.SagaServiceClient, inFlight, sagas int, sleep func() time.Duration,
) error {
	var next atomic.Int64
	errs := make(chan error, inFlight)
	var group sync.WaitGroup
	for range inFlight {
		group.Go(func() {
			for next.Add(1) <= int64(sagas) {
				if _, err := createAsleep(ctx, client, sleep(), ""); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	group.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// createAsleep starts a saga of one step that sleeps first.
func createAsleep(
	ctx context.Context, client treatyv1.SagaServiceClient, d time.Duration, requestID string,
) (string, error) {
	return createWork(ctx, client, &benchv1.RunRequest{Steps: 1, SleepSeconds: int64(d.Seconds())}, requestID)
}

// createWork starts a saga and returns its name.
func createWork(
	ctx context.Context, client treatyv1.SagaServiceClient, run *benchv1.RunRequest, requestID string,
) (string, error) {
	request, err := anypb.New(run)
	if err != nil {
		return "", fmt.Errorf("making a request: %w", err)
	}
	saga, err := client.CreateSaga(ctx, &treatyv1.CreateSagaRequest{Definition: "bench.v1.WorkSagas/Run",
		Request: request, RequestId: requestID})
	if err != nil {
		return "", fmt.Errorf("starting a saga: %w", err)
	}
	return saga.GetName(), nil
}

// settled returns the child's resident memory in MB, once it had time to return memory that it no longer needs.
func (p *process) settled(ctx context.Context) (float64, error) {
	select {
	case <-time.After(settling):
	case <-ctx.Done():
		return 0, fmt.Errorf("measuring memory: %w", ctx.Err())
	}
	return p.memory("VmRSS:")
}

// memory returns a figure of the child's memory in MB, as the kernel names it.
func (p *process) memory(figure string) (float64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("reading the memory of bench %s (it takes Linux): %w", p.name, err)
	}
	for line := range strings.Lines(string(data)) {
		if rest, found := strings.CutPrefix(line, figure); found {
			var kb float64
			if _, err := fmt.Sscan(rest, &kb); err != nil {
				return 0, fmt.Errorf("reading the memory of bench %s: %w", p.name, err)
			}
			return kb / 1024, nil
		}
	}
	return 0, fmt.Errorf("reading the memory of bench %s: no %s", p.name, figure)
}
