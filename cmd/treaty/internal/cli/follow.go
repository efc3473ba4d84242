package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/treatyhq/treaty/cmd/treaty/internal/connection"
	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
	"github.com/treatyhq/treaty/cmd/treaty/internal/resource"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// The waits before a lost connection is tried again.
const (
	firstPause   = 500 * time.Millisecond
	longestPause = 5 * time.Second
)

// follower is told about a saga that is followed.
type follower struct {
	// seen is called with the saga now and after each change.
	seen func(*treatyv1.Saga)

	// lost is called when the connection was lost and will be tried again.
	lost func()
}

// lostOnStderr says on stderr that a connection was lost.
func (a *app) lostOnStderr() {
	_, _ = fmt.Fprintln(a.Stderr, a.lostConnection())
}

// lostConnection says that the connection was lost.
func (a *app) lostConnection() string {
	return "The connection to " + a.flags.connection.Address + " was lost; trying again."
}

// follow tells a follower about a saga, and returns it once it has ended. A connection that is lost after it once stood is
// tried again until ctx ends: a saga outlives the orchestrator's process, so what follows it should too.
func (a *app) follow(ctx context.Context, c *connection.Client, name string, f follower) (*treatyv1.Saga, error) {
	var last *treatyv1.Saga
	_, bounded := ctx.Deadline()
	wait := firstPause
	for {
		err := stream(ctx, c, name, func(saga *treatyv1.Saga) {
			wait = firstPause
			if last == nil || !proto.Equal(last, saga) {
				last = saga
				f.seen(saga)
			}
		})
		if err == nil && last == nil {
			err = status.Error(codes.Internal, "the stream ended before it held the saga")
		}
		switch {
		case last != nil && resource.IsFinal(last.GetState()):
			return last, nil
		case ctx.Err() != nil:
			return nil, a.gaveUp(ctx.Err(), name, last)
		case bounded && status.Code(err) == codes.DeadlineExceeded:
			// The other side's clock was a little ahead of ours.
			return nil, a.gaveUp(context.DeadlineExceeded, name, last)
		case err == nil, last != nil && isBroken(err):
		default:
			return nil, a.explain(err, problem.Subject{Doing: "watching the saga", Saga: name})
		}
		if wait == firstPause {
			f.lost()
		}
		if err := a.Pause(ctx, wait); err != nil {
			return nil, a.gaveUp(err, name, last)
		}
		wait = min(2*wait, longestPause)
	}
}

// stream calls seen with all that one stream brings. It returns nil when the stream ended in order.
func stream(ctx context.Context, c *connection.Client, name string, seen func(*treatyv1.Saga)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changes, err := c.Sagas.WatchSaga(ctx, &treatyv1.WatchSagaRequest{Name: name})
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

// isBroken tells whether a stream ended for a reason that has nothing to do with the saga: the process at the other end
// stopped, or something in between limits how long a stream may be.
func isBroken(err error) bool {
	code := status.Code(err)
	return code == codes.Unavailable || code == codes.DeadlineExceeded
}

// gaveUp says that --timeout passed before the saga ended, or that the command was interrupted.
func (a *app) gaveUp(cause error, name string, last *treatyv1.Saga) error {
	if !errors.Is(cause, context.DeadlineExceeded) {
		return a.explain(cause, problem.Subject{})
	}
	if last == nil {
		return a.explain(cause, problem.Subject{Doing: "watching the saga"})
	}
	return &problem.Problem{
		Exit:    problem.ExitFailure,
		Code:    codes.DeadlineExceeded,
		Message: fmt.Sprintf("%s is still %s after %s", name, resource.StateName(last.GetState()), a.flags.connection.Timeout),
		Hints:   []string{"It goes on all the same: treaty sagas wait " + render.ShellQuote(name) + " waits again."},
	}
}
