package participant

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/grpc/metadata"
)

// The gRPC metadata that comes with every call that is made for a saga.
const (
	// SagaKey holds the saga's name, "sagas/{saga}".
	SagaKey = "treaty-saga"

	// CommandIDKey holds the command id, "sagas/{saga}/steps/{step}". It is the same for all attempts of one step and for
	// both directions.
	CommandIDKey = "treaty-command-id"

	// DirectionKey holds "action" or "compensation".
	DirectionKey = "treaty-direction"

	// AttemptKey holds the attempt's number in decimal, from 1.
	AttemptKey = "treaty-attempt"

	// EpochKey holds the fencing epoch of the orchestrator that sent the command, in decimal.
	EpochKey = "treaty-epoch"
)

// Direction says whether a command is sent to do or to undo.
type Direction string

// The directions.
const (
	Action       Direction = "action"
	Compensation Direction = "compensation"
)

// Command is what the orchestrator says about a call, apart from the request.
type Command struct {
	// Saga is the saga's name, "sagas/{saga}".
	Saga string

	// CommandID names the step, "sagas/{saga}/steps/{step}": the same for all attempts and for both directions.
	CommandID string

	// Direction is whether the call does or undoes.
	Direction Direction

	// Attempt counts the calls for this step and direction that one orchestrator process made, from 1.
	Attempt int

	// Epoch grows whenever a saga's orchestrator is replaced. A call with a lower epoch than an earlier one for the same
	// saga comes from a process that was replaced. 0 when the orchestrator said nothing.
	Epoch uint64
}

// Outgoing returns a context whose outgoing calls carry the command's metadata. Orchestrators do the like; a test of a
// participant uses it to stand in for one.
func (c Command) Outgoing(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx,
		SagaKey, c.Saga,
		CommandIDKey, c.CommandID,
		DirectionKey, string(c.Direction),
		AttemptKey, strconv.Itoa(c.Attempt),
		EpochKey, strconv.FormatUint(c.Epoch, 10))
}

type commandContextKey struct{}

// NewContext returns a context in which [FromContext] finds the command.
func NewContext(ctx context.Context, c Command) context.Context {
	return context.WithValue(ctx, commandContextKey{}, c)
}

// FromContext returns the command that a handler is called for. It returns false when the call was not made for a saga,
// for example by a person with grpcurl.
func FromContext(ctx context.Context) (Command, bool) {
	c, ok := ctx.Value(commandContextKey{}).(Command)
	return c, ok
}

// ParseMetadata reads a command from a call's metadata. It returns false without an error when there is no command id:
// then the call wasn't made for a saga. It returns an error that names the key when the metadata is malformed; such a call
// must not be executed, because it can't be told from a duplicate. A server made by [NewServer] has done this already.
func ParseMetadata(md metadata.MD) (Command, bool, error) {
	ids := md.Get(CommandIDKey)
	if len(ids) == 0 {
		return Command{}, false, nil
	}
	c := Command{CommandID: ids[0], Saga: first(md, SagaKey)}
	saga, step, found := strings.Cut(c.CommandID, "/steps/")
	switch {
	case len(ids) > 1:
		return Command{}, false, fmt.Errorf("metadata %s: %d values, want one", CommandIDKey, len(ids))
	case !found || step == "" || strings.Contains(step, "/") || !strings.HasPrefix(saga, "sagas/") || saga == "sagas/" || len(c.CommandID) > maxCommandID:
		return Command{}, false, fmt.Errorf("metadata %s: want sagas/{saga}/steps/{step} of at most %d bytes, got %.80q", CommandIDKey, maxCommandID, c.CommandID)
	case c.Saga == "":
		c.Saga = saga
	case c.Saga != saga:
		return Command{}, false, fmt.Errorf("metadata %s: want %q as in %s, got %.80q", SagaKey, saga, CommandIDKey, c.Saga)
	}
	switch d := Direction(first(md, DirectionKey)); d {
	case Action, Compensation:
		c.Direction = d
	default:
		return Command{}, false, fmt.Errorf("metadata %s: want %q or %q, got %.80q", DirectionKey, Action, Compensation, string(d))
	}
	c.Attempt = 1
	if s := first(md, AttemptKey); s != "" {
		n, err := strconv.ParseUint(s, 10, 31)
		if err != nil || n == 0 {
			return Command{}, false, fmt.Errorf("metadata %s: want a decimal number from 1, got %.80q", AttemptKey, s)
		}
		c.Attempt = int(n)
	}
	if s := first(md, EpochKey); s != "" {
		// 63 bits, so that it fits into any database's integers.
		n, err := strconv.ParseUint(s, 10, 63)
		if err != nil {
			return Command{}, false, fmt.Errorf("metadata %s: want a decimal number below 2^63, got %.80q", EpochKey, s)
		}
		c.Epoch = n
	}
	return c, true, nil
}

// maxCommandID is the longest command id that is accepted, in bytes. It is a key in the inbox.
const maxCommandID = 512

func first(md metadata.MD, key string) string {
	if v := md.Get(key); len(v) > 0 {
		return v[0]
	}
	return ""
}
