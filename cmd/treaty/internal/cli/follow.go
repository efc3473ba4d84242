package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
	"github.com/treatyhq/treaty/cmd/treaty/internal/resource"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// The waits between retries of a lost connection.
const (
	firstPause   = 500 * time.Millisecond
	longestPause = 5 * time.Second
)

// follower receives the changes of a saga. Its functions are called one at a time.
type follower struct {
	// seen is called with the current saga, and again after each change.
	seen func(*treatyv1.Saga)

	// tried is called with the saga when it was read again because it hasn't changed for a while. Its attempts may
	// differ from those that were seen.
	tried func(*treatyv1.Saga)

	// lost is called when the connection is lost and about to be retried.
	lost func()
}

// lostOnStderr reports a lost connection on stderr.
func (a *app) lostOnStderr() { _, _ = fmt.Fprintln(a.Stderr, a.lostConnection()) }

func (a *app) lostConnection() string {
	return "Lost the connection to " + a.flags.connection.Address + ". Retrying."
}

// follow reports the changes of a saga to f and returns the saga once it has ended. It retries a connection that is
// lost after it was established, until ctx ends: a saga outlives the orchestrator's process, so following it must
// survive a restart.
func (a *app) follow(ctx context.Context, name string, f follower) (*treatyv1.Saga, error) {
	var (
		mu      sync.Mutex // guards last and changed, and the calls of f
		last    *treatyv1.Saga
		changed bool // since the saga was last read again
		looking sync.WaitGroup
	)
	look, stop := context.WithCancel(ctx)
	defer looking.Wait()
	defer stop()
	looking.Go(func() {
		a.readAgain(look, name, func() bool {
			mu.Lock()
			defer mu.Unlock()
			quiet := last != nil && !changed
			changed = false
			return quiet
		}, func(read *treatyv1.Saga) {
			mu.Lock()
			defer mu.Unlock()
			// Whatever is journaled comes by the stream.
			isCurrent := proto.Equal(read.GetUpdateTime(), last.GetUpdateTime()) && read.GetState() == last.GetState()
			if isCurrent && !resource.IsFinal(last.GetState()) {
				f.tried(read)
			}
		})
	})
	_, bounded := ctx.Deadline()
	wait := firstPause
	for {
		err := a.stream(ctx, name, func(saga *treatyv1.Saga) {
			mu.Lock()
			defer mu.Unlock()
			wait = firstPause
			if last == nil || !proto.Equal(last, saga) {
				last, changed = saga, true
				a.progress.say("waiting for %s, which is %s", name, resource.StateName(saga.GetState()))
				f.seen(saga)
			}
		})
		if err == nil && last == nil {
			err = status.Error(codes.Internal, "the stream ended without sending the saga")
		}
		switch {
		case last != nil && resource.IsFinal(last.GetState()):
			return last, nil
		case ctx.Err() != nil:
			return nil, a.gaveUp(ctx.Err(), name, last)
		case bounded && status.Code(err) == codes.DeadlineExceeded:
			// The server noticed the deadline a moment before this process did.
			return nil, a.gaveUp(context.DeadlineExceeded, name, last)
		case err == nil, last != nil && isBroken(err):
		default:
			return nil, a.explain(err, problem.Subject{Doing: "watching the saga", Saga: name})
		}
		if wait == firstPause {
			mu.Lock()
			f.lost()
			mu.Unlock()
		}
		if err := a.Pause(ctx, wait); err != nil {
			return nil, a.gaveUp(err, name, last)
		}
		wait = min(2*wait, longestPause)
	}
}

// readAgain reads a saga while quiet returns true, and calls tried with it, until ctx ends: soon after it was seen, and
// then less often. Attempts aren't journaled, so that a stream doesn't tell of them.
func (a *app) readAgain(ctx context.Context, name string, quiet func() bool, tried func(*treatyv1.Saga)) {
	wait := a.ReadAgain
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if !quiet() {
			wait = a.ReadAgain
			timer.Reset(wait)
			continue
		}
		wait = min(2*wait, longestPause)
		timer.Reset(wait)
		call, cancel := a.unary(ctx)
		saga, err := a.client.Sagas.GetSaga(call, &treatyv1.GetSagaRequest{Name: name})
		cancel()
		if err == nil {
			tried(saga)
		}
	}
}

// obstacles are what was said to keep a saga from making progress.
type obstacles struct {
	app   *app
	known []render.Obstacle
}

// tried says on stderr what keeps a saga that hasn't changed for a while, once for each obstacle until it is gone.
func (o *obstacles) tried(saga *treatyv1.Saga) { o.report(render.Obstacles(saga)) }

// seen does the same for a saga that has just changed, but leaves out what may be over in a moment.
func (o *obstacles) seen(saga *treatyv1.Saga) {
	o.report(slices.DeleteFunc(render.Obstacles(saga), func(found render.Obstacle) bool {
		return found.Brief && !o.isKnown(found)
	}))
}

func (o *obstacles) report(now []render.Obstacle) {
	for _, obstacle := range now {
		if !o.isKnown(obstacle) {
			_, _ = fmt.Fprintln(o.app.Stderr, obstacle.Text+".")
		}
	}
	o.known = now
}

func (o *obstacles) isKnown(found render.Obstacle) bool {
	return slices.ContainsFunc(o.known, func(old render.Obstacle) bool { return old.Key == found.Key })
}

// stream calls seen with every saga that one stream sends. It returns nil when the server ended the stream without an
// error.
func (a *app) stream(ctx context.Context, name string, seen func(*treatyv1.Saga)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changes, err := a.client.Sagas.WatchSaga(ctx, &treatyv1.WatchSagaRequest{Name: name})
	if err != nil {
		return err
	}
	for {
		change, err := changes.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		seen(change.GetSaga())
	}
}

// isBroken reports whether a stream ended for a reason that has nothing to do with its content: the server's process
// stopped, a proxy limits how long a stream may be, or nothing was read for a while, for example because the output of
// the program wasn't.
func isBroken(err error) bool {
	code := status.Code(err)
	return code == codes.Unavailable || code == codes.DeadlineExceeded || problem.IsStalled(err)
}

// gaveUp explains why following a saga ended first: --timeout passed, or the command was interrupted.
func (a *app) gaveUp(cause error, name string, last *treatyv1.Saga) error {
	if !errors.Is(cause, context.DeadlineExceeded) {
		return a.explain(cause, problem.Subject{})
	}
	if last == nil {
		return a.explain(cause, problem.Subject{Doing: "watching the saga"})
	}
	return &problem.Error{
		Exit: problem.ExitFailure,
		Code: codes.DeadlineExceeded,
		Message: fmt.Sprintf("%s is still %s after %s", name, resource.StateName(last.GetState()),
			a.flags.connection.Timeout),
		Hints: []string{"The saga continues. To wait again, run treaty sagas wait " + render.ShellQuote(name) + "."},
	}
}
