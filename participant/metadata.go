package participant

import (
	"context"
	"strconv"

	"google.golang.org/grpc/metadata"

	"github.com/treatyhq/treaty/internal/incoming"
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

// ParseMetadata reads a command from the metadata of a call. It returns false and no error if there is no key of a
// command: the call was not made for a saga. If the metadata is malformed or lacks the command id, or if a key comes
// twice, it returns an error that names the key. Such a call must not be executed, because it can't be recognized as a
// duplicate. [UnaryServerInterceptor] calls ParseMetadata.
func ParseMetadata(md metadata.MD) (Command, bool, error) {
	command, found, err := incoming.ParseCommand(md)
	if err != nil || !found {
		return Command{}, false, err
	}
	return commandOf(&command), true, nil
}

func commandOf(command *incoming.Command) Command {
	return Command{
		Saga: command.Saga, CommandID: command.ID, Direction: Direction(command.Direction), Attempt: command.Attempt,
		Epoch: command.Epoch, Scope: command.Scope, Start: command.Start, RequestDigest: command.RequestDigest,
	}
}
