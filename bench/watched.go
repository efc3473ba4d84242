package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	benchv1 "github.com/treatyhq/treaty/gen/bench/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

const (
	// watchedSteps is how many steps the watched saga has.
	watchedSteps = 300

	// watchedDelay is how long the watched saga sleeps first, so that all can watch it before its steps begin.
	watchedDelay = 3 * time.Second

	// maxWatchers is how many may watch at once.
	maxWatchers = 20_000

	// watchersPerConn is how many watchers share a connection.
	watchersPerConn = 100
)

// watchedReport is what it costs to watch a saga.
type watchedReport struct {
	Steps    int     `json:"steps"` // of the watched saga
	Watchers int     `json:"watchers"`
	Views    int64   `json:"views"`                  // that each watcher received, on average
	Alone    float64 `json:"alone_s"`                // that its steps took while no other saga ran
	Beside   float64 `json:"beside_s"`               // the same while others ran
	Others   float64 `json:"other_sagas_per_second"` // that ended meanwhile
}

// watched measures a long saga for each number of watchers.
func watched(ctx context.Context, o options, out io.Writer) error {
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
	treaty, err := all.start(nil, "treaty", "--participant", participant.address,
		"--store", filepath.Join(dir, "treaty.db"))
	if err != nil {
		return err
	}
	if err := watchEach(all.ctx, o, treaty, out); err != nil {
		return all.why(err)
	}
	return errors.Join(treaty.stop(), participant.stop())
}

// watchEach measures it for each number of watchers.
func watchEach(ctx context.Context, o options, treaty *process, out io.Writer) (err error) {
	for _, watchers := range o.Watchers {
		r := &watchedReport{Steps: watchedSteps, Watchers: watchers}
		if r.Views, r.Alone, err = watchOne(ctx, treaty.address, watchers); err != nil {
			return err
		}
		others := runOthers(ctx, treaty.address, o)
		var before atomic.Int64
		time.AfterFunc(watchedDelay, func() { before.Store(others.ended.Load()) })
		_, r.Beside, err = watchOne(ctx, treaty.address, watchers)
		ended := others.ended.Load() - before.Load()
		if err := errors.Join(err, others.stop()); err != nil {
			return err
		}
		r.Others = float64(ended) / r.Beside
		if err := r.print(o, out); err != nil {
			return err
		}
	}
	return nil
}

func (r *watchedReport) print(o options, out io.Writer) error {
	if o.JSON {
		return json.NewEncoder(out).Encode(r)
	}
	_, err := fmt.Fprintf(out, "%d steps, %d watchers with %d views each: %.2f s alone, %.2f s beside %.0f other "+
		"sagas per second\n", r.Steps, r.Watchers, r.Views, r.Alone, r.Beside, r.Others)
	return err
}

// watchOne runs one saga that is watched. It returns how many views each watcher received and how long the steps took.
func watchOne(ctx context.Context, address string, watchers int) (views int64, seconds float64, err error) {
	client, closeConn, err := dialSagas(address)
	if err != nil {
		return 0, 0, err
	}
	defer closeConn()
	began := time.Now()
	name, err := createWork(ctx, client,
		&benchv1.RunRequest{Steps: watchedSteps, SleepSeconds: int64(watchedDelay.Seconds())}, "")
	if err != nil {
		return 0, 0, err
	}
	var received atomic.Int64
	var group sync.WaitGroup
	errs := make(chan error, watchers)
	for left := watchers; left > 0; left -= watchersPerConn {
		shared, closeShared, err := dialSagas(address)
		if err != nil {
			return 0, 0, err
		}
		defer closeShared()
		for range min(left, watchersPerConn) {
			group.Go(func() {
				if err := receiveViews(ctx, shared, name, &received); err != nil {
					errs <- err
				}
			})
		}
	}
	saga, err := client.WaitSaga(ctx, &treatyv1.WaitSagaRequest{Name: name})
	if err != nil {
		return 0, 0, fmt.Errorf("waiting for the watched saga: %w", err)
	}
	seconds = (time.Since(began) - watchedDelay).Seconds()
	if saga.GetState() != treatyv1.SagaState_SAGA_STATE_SUCCEEDED {
		return 0, 0, fmt.Errorf("the watched saga is %s", saga.GetState())
	}
	group.Wait()
	close(errs)
	return received.Load() / int64(max(watchers, 1)), seconds, <-errs
}

// receiveViews watches a saga until it has ended.
func receiveViews(
	ctx context.Context, client treatyv1.SagaServiceClient, name string, received *atomic.Int64,
) error {
	stream, err := client.WatchSaga(ctx, &treatyv1.WatchSagaRequest{Name: name})
	for err == nil {
		if _, err = stream.Recv(); err == nil {
			received.Add(1)
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return fmt.Errorf("watching a saga: %w", err)
}

// others are sagas that run while another one is watched.
type others struct {
	ended  atomic.Int64
	cancel context.CancelFunc
	group  sync.WaitGroup
	err    error
}

// runOthers keeps sagas in flight until stop is called.
func runOthers(ctx context.Context, address string, o options) *others {
	ctx, cancel := context.WithCancel(ctx)
	running := &others{cancel: cancel}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		running.err = fmt.Errorf("connecting to %s: %w", address, err)
		return running
	}
	client := benchv1.NewWorkSagasClient(conn)
	var failed sync.Once
	for range o.InFlight {
		running.group.Go(func() {
			for ctx.Err() == nil {
				_, err := client.Run(ctx, &benchv1.RunRequest{Steps: int32(o.Steps)})
				if err != nil && ctx.Err() == nil {
					failed.Do(func() { running.err = fmt.Errorf("running other sagas: %w", err) })
					return
				}
				running.ended.Add(1)
			}
		})
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	return running
}

func (r *others) stop() error {
	r.cancel()
	r.group.Wait()
	return r.err
}
