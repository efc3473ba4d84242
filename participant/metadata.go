package participant

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
)

// The gRPC metadata of a call made for a saga.
const (
	// SagaKey is "treaty-saga". It holds the saga's name, "sagas/{saga}".
	SagaKey = wire.SagaKey

	// CommandIDKey is "treaty-command-id". It holds the command id, "sagas/{saga}/steps/{step}". All attempts of a step
	// have the same command id, in both directions.
	CommandIDKey = wire.CommandIDKey

	// DirectionKey is "treaty-direction". It holds "action" or "compensation".
	DirectionKey = wire.DirectionKey

	// AttemptKey is "treaty-attempt". It holds the number of the attempt in decimal, starting at 1.
	AttemptKey = wire.AttemptKey

	// EpochKey is "treaty-epoch". It holds the fencing epoch of the orchestrator that sent the command, in decimal.
	EpochKey = wire.EpochKey

	// ScopeKey is "treaty-scope". It holds the scope of the epoch, "{name}/{shard}".
	ScopeKey = wire.ScopeKey

	// StartKey is "treaty-start". It holds the time of the saga's start, in decimal microseconds since 1970 in UTC.
	StartKey = wire.StartKey

	// RequestDigestKey is "treaty-request-digest". It holds the SHA-256 of the action's method, a zero byte and the
	// action's request as the orchestrator stores it, in hex.
	RequestDigestKey = wire.RequestDigestKey
)

// PendingKey is "treaty-pending", the trailer of a call that is answered OK although its command is completed later. It
// holds the number of seconds, in decimal from 1 to 86400, after which the orchestrator sends the command again unless
// it has received a completion or a heartbeat.
const PendingKey = wire.PendingKey

// AnswerKey is "treaty-answer", the trailer that says whose word an answer is and what it covers: "settled" for an
// error that an inbox has stored (see [Settle]), "attempt" for every other error of this package or a handler, and
// "done" for an OK of a method whose contract sets complete_within.
const AnswerKey = wire.AnswerKey

// Outgoing returns a context whose outgoing calls carry the command's metadata. Use it in a participant's tests to send
// commands as an orchestrator does.
func (c Command) Outgoing(ctx context.Context) context.Context {
	ctx = metadata.AppendToOutgoingContext(ctx,
		SagaKey, c.Saga,
		CommandIDKey, c.CommandID,
		DirectionKey, string(c.Direction),
		AttemptKey, strconv.Itoa(c.Attempt),
		EpochKey, strconv.FormatUint(c.Epoch, 10))
	if c.Scope != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, ScopeKey, c.Scope)
	}
	if !c.Start.IsZero() {
		ctx = metadata.AppendToOutgoingContext(ctx, StartKey, strconv.FormatInt(c.Start.UnixMicro(), 10))
	}
	if c.RequestDigest != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, RequestDigestKey, c.RequestDigest)
	}
	return ctx
}

// commandKeys are the keys of a command's metadata.
var commandKeys = []string{
	SagaKey, CommandIDKey, DirectionKey, AttemptKey, EpochKey, ScopeKey, StartKey, RequestDigestKey,
}

// hasCommandKey reports whether a call has a key of a command's metadata.
func hasCommandKey(md metadata.MD) bool {
	for _, key := range commandKeys {
		if len(md[key]) > 0 {
			return true
		}
	}
	return false
}

// ParseMetadata reads a command from the metadata of a call. It returns false and no error if there is no key of a
// command: the call was not made for a saga. If the metadata is malformed or lacks the command id, or if a key comes
// twice, it returns an error that names the key. Such a call
// must not be executed, because it can't be recognized as a duplicate. [UnaryServerInterceptor] calls ParseMetadata.
func ParseMetadata(md metadata.MD) (Command, bool, error) {
	if !hasCommandKey(md) {
		return Command{}, false, nil
	}
	for _, key := range commandKeys {
		if n := len(md[key]); n > 1 {
			return Command{}, false, fmt.Errorf("metadata %s: %d values, want one", key, n)
		}
	}
	c := Command{
		CommandID: first(md, CommandIDKey), Saga: first(md, SagaKey), Direction: Direction(first(md, DirectionKey)),
		Attempt: 1,
	}
	saga, _, ok := wire.SplitStep(c.CommandID)
	if !ok || len(c.CommandID) > wire.MaxCommandID {
		return Command{}, false, fmt.Errorf(
			"metadata %s: want sagas/{saga}/steps/{step} of at most %d bytes, got %.80q",
			CommandIDKey, wire.MaxCommandID, c.CommandID)
	}
	if c.Saga == "" {
		c.Saga = saga
	}
	if c.Saga != saga {
		return Command{}, false, fmt.Errorf("metadata %s: want %q as in %s, got %.80q", SagaKey, saga, CommandIDKey,
			c.Saga)
	}
	if c.Direction != Action && c.Direction != Compensation {
		return Command{}, false, fmt.Errorf("metadata %s: want %q or %q, got %.80q",
			DirectionKey, Action, Compensation, string(c.Direction))
	}
	if s := first(md, AttemptKey); s != "" {
		n, err := strconv.ParseUint(s, 10, 31)
		if err != nil || n == 0 {
			return Command{}, false, fmt.Errorf("metadata %s: want a decimal number from 1, got %.80q", AttemptKey, s)
		}
		c.Attempt = int(n)
	}
	if s := first(md, EpochKey); s != "" {
		// 63 bits fit into the integers of any database.
		n, err := strconv.ParseUint(s, 10, 63)
		if err != nil {
			return Command{}, false, fmt.Errorf("metadata %s: want a decimal number below 2^63, got %.80q", EpochKey, s)
		}
		c.Epoch = n
	}
	if c.Scope = first(md, ScopeKey); c.Scope != "" && c.Epoch == 0 {
		return Command{}, false, fmt.Errorf("metadata %s: is missing, but there is a %s", EpochKey, ScopeKey)
	}
	if c.Scope != "" && !wire.ValidScope(c.Scope) {
		return Command{}, false, fmt.Errorf("metadata %s: want {name}/{shard} of at most %d bytes, got %.80q", ScopeKey,
			wire.MaxScope, c.Scope)
	}
	if s := first(md, StartKey); s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < 0 {
			return Command{}, false, fmt.Errorf("metadata %s: want decimal microseconds since 1970, got %.80q", StartKey, s)
		}
		c.Start = time.UnixMicro(n).UTC()
	}
	c.RequestDigest = first(md, RequestDigestKey)
	if c.RequestDigest != "" && !isDigest(c.RequestDigest) {
		return Command{}, false, fmt.Errorf("metadata %s: want %d hex digits in lower case, got %.80q", RequestDigestKey,
			wire.DigestLength, c.RequestDigest)
	}
	return c, true, nil
}

// invalidMetadata returns the status for malformed metadata.
func invalidMetadata(err error) error {
	return withReason(codes.InvalidArgument, treatyv1.ErrorReason_ERROR_REASON_METADATA_INVALID, err.Error(), nil)
}

func isDigest(text string) bool {
	if len(text) != wire.DigestLength {
		return false
	}
	for _, r := range text {
		if (r < '0' || r > '9') && (r < 'a' || r > 'f') {
			return false
		}
	}
	return true
}

func first(md metadata.MD, key string) string {
	if v := md.Get(key); len(v) > 0 {
		return v[0]
	}
	return ""
}
