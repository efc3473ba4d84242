package participant

import (
	"context"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Keeper keeps what became of commands. Package inbox implements it. [NewServer] serves treaty.v1.ParticipantService
// for the keepers in its options. All methods may be called concurrently.
//
// Every method first raises the highest epoch of the caller's scope, in a transaction of its own that stays whatever
// the call comes to. If the caller's epoch is lower, it does nothing else and returns ABORTED with the reason
// STALE_EPOCH. Errors are gRPC statuses.
type Keeper interface {
	// KeptMethods returns the full names of the methods whose effects are kept, such as
	// "acme.card.v1.CardService/ChangeAddress", sorted.
	KeptMethods() []string

	// Hear stores what an orchestrator says about its scope, and returns what was known before this call, or nil if
	// nothing was. told is nil if the orchestrator only sent its epoch.
	Hear(ctx context.Context, caller Caller, told *treatyv1.DescribeRequest) (*treatyv1.HeardScope, error)

	// ListCommands returns a page of what is known about commands of the caller's scope, in any order. Commands without
	// a scope, which older orchestrators sent, belong to every scope.
	ListCommands(
		ctx context.Context, caller Caller, request *treatyv1.ListCommandsRequest,
	) (*treatyv1.ListCommandsResponse, error)

	// CloseCommand returns what became of an action, and makes sure that it is never executed if nothing did. It
	// returns NotKept, and stores nothing, for a method that isn't in KeptMethods.
	CloseCommand(
		ctx context.Context, caller Caller, request *treatyv1.CloseCommandRequest,
	) (*treatyv1.CloseCommandResponse, error)
}

// Caller is the orchestrator that makes a call.
type Caller struct {
	// Scope is the scope of its epoch, "{name}/{shard}". It is empty for an older orchestrator, whose epochs belong to
	// each saga on its own.
	Scope string

	// Epoch is its fencing epoch.
	Epoch uint64
}
