package participant

import (
	"context"
	"fmt"
	"strconv"

	"google.golang.org/grpc/metadata"

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
)

// PendingKey is "treaty-pending", the trailer of a call that is answered OK although its command is completed later. It
// holds the number of seconds, in decimal from 1 to 86400, after which the orchestrator sends the command again unless
// it has received a completion or a heartbeat.
const PendingKey = wire.PendingKey

// Outgoing returns a context whose outgoing calls carry the command's metadata. Use it in a participant's tests to send
// commands as an orchestrator does.
func (c Command) Outgoing(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx,
		SagaKey, c.Saga,
		CommandIDKey, c.CommandID,
		DirectionKey, string(c.Direction),
		AttemptKey, strconv.Itoa(c.Attempt),
		EpochKey, strconv.FormatUint(c.Epoch, 10))
}

// ParseMetadata reads a command from the metadata of a call. It returns false and no error if there is no command id:
// the call was not made for a saga. If the metadata is malformed, it returns an error that names the key. Such a call
// must not be executed, because it can't be recognized as a duplicate. [UnaryServerInterceptor] calls ParseMetadata.
func ParseMetadata(md metadata.MD) (Command, bool, error) {
	ids := md.Get(CommandIDKey)
	if len(ids) == 0 {
		return Command{}, false, nil
	}
	if len(ids) > 1 {
		return Command{}, false, fmt.Errorf("metadata %s: %d values, want one", CommandIDKey, len(ids))
	}
	c := Command{CommandID: ids[0], Saga: first(md, SagaKey), Direction: Direction(first(md, DirectionKey)), Attempt: 1}
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
	return c, true, nil
}

func first(md metadata.MD, key string) string {
	if v := md.Get(key); len(v) > 0 {
		return v[0]
	}
	return ""
}
