package participant

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// The bounds of the wait given to [Pending].
const (
	MinPending = time.Second
	MaxPending = 24 * time.Hour
)

// Pending returns the error with which a handler says that it has accepted a command and completes it later, with a
// [Completer]. [UnaryServerInterceptor] answers the call with OK, an empty reply and the trailer PendingKey. The
// orchestrator then waits. If it receives neither a completion nor a heartbeat for the given time, it sends the command
// again with the same command id. The time is rounded up to whole seconds and limited to the range from MinPending to
// MaxPending.
//
// Only a saga's command can be pending. A call without a command id is answered with FAILED_PRECONDITION. Use package
// inbox to accept and complete commands exactly once.
func Pending(wait time.Duration) error {
	wait = min(max(wait, MinPending), MaxPending)
	return &pendingError{wait: (wait + time.Second - 1).Truncate(time.Second)}
}

// IsPending reports whether an error was returned by [Pending], and returns its wait.
func IsPending(err error) (wait time.Duration, ok bool) {
	if err == nil {
		return 0, false // without the allocation below
	}
	var pending *pendingError
	if !errors.As(err, &pending) {
		return 0, false
	}
	return pending.wait, true
}

type pendingError struct{ wait time.Duration }

// Error says that the command was accepted.
func (e *pendingError) Error() string {
	return fmt.Sprintf("command accepted, to be completed later; "+
		"send it again after %s without a completion or heartbeat", e.wait)
}

// pend answers a call whose command was accepted.
func pend(ctx context.Context, wait time.Duration) (any, error) {
	if _, ok := FromContext(ctx); !ok {
		return nil, status.Error(codes.FailedPrecondition,
			"this method is completed later, so only a saga can call it: "+
				"the call has no metadata "+CommandIDKey+"; start a saga instead")
	}
	seconds := strconv.FormatInt(int64(wait/time.Second), 10)
	if err := grpc.SetTrailer(ctx, metadata.Pairs(PendingKey, seconds)); err != nil {
		return nil, status.Error(codes.Unavailable, "can't set the trailer "+PendingKey)
	}
	// No bytes: an empty message of any type.
	return &emptypb.Empty{}, nil
}
