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

// PendingKey is the trailer with which a call is answered OK when its command was accepted and is completed later. It holds the seconds in
// decimal, from 1 to 86400, after which the orchestrator sends the command again unless it has heard of it.
const PendingKey = "treaty-pending"

// The bounds of what [Pending] takes.
const (
	MinPending = time.Second
	MaxPending = 24 * time.Hour
)

// Pending returns the error with which a handler says that it has accepted a command and completes it later, by a [Completer]. A server made by
// [NewServer] answers OK then, with an empty reply and the trailer PendingKey. The orchestrator waits; when it has heard neither a completion
// nor a heartbeat for the given time, it sends the command again, with the same command id. The time is rounded up to whole
// seconds and kept between MinPending and MaxPending.
//
// Only commands of sagas can be accepted: a call without a command id is answered with FAILED_PRECONDITION. Use the package inbox to
// accept and complete exactly once.
func Pending(wait time.Duration) error {
	wait = min(max(wait, MinPending), MaxPending)
	return &pendingError{wait: (wait + time.Second - 1).Truncate(time.Second)}
}

// IsPending returns whether an error is one of [Pending], and its time.
func IsPending(err error) (wait time.Duration, ok bool) {
	var pending *pendingError
	if !errors.As(err, &pending) {
		return 0, false
	}
	return pending.wait, true
}

type pendingError struct{ wait time.Duration }

// Error says that the command was accepted.
func (e *pendingError) Error() string {
	return fmt.Sprintf("the command was accepted and is completed later; send it again when nothing was heard of it for %s", e.wait)
}

// pend answers a call whose command was accepted.
func pend(ctx context.Context, wait time.Duration) (any, error) {
	if _, ok := FromContext(ctx); !ok {
		return nil, status.Error(codes.FailedPrecondition, "this method is completed later, and only a saga waits for that: the call has no metadata "+CommandIDKey+"; start a saga instead")
	}
	seconds := strconv.FormatInt(int64(wait/time.Second), 10)
	if err := grpc.SetTrailer(ctx, metadata.Pairs(PendingKey, seconds)); err != nil {
		return nil, status.Error(codes.Unavailable, "the trailer "+PendingKey+" couldn't be set")
	}
	// No bytes: an empty message of any type.
	return &emptypb.Empty{}, nil
}
