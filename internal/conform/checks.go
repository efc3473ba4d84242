package conform

import (
	"context"
)

// check is a guarantee and how to check it.
type check struct {
	Guarantee

	// undo says that the check needs a compensation, and query that it holds for queries, too.
	undo, query bool

	run func(ctx context.Context, c *Command) error
}

// checks are in the order in which they are made and reported. The first one decides whether the others are made.
var checks = []check{
	{Guarantee{"executed", "a command is executed and answered"}, false, true, executed},
	{Guarantee{"duplicate", "a second delivery gets the same answer and has no effect"}, false, false, duplicate},
	{Guarantee{"concurrent-duplicates", "of deliveries at the same time, one has an effect"}, false, false,
		concurrentDuplicates},
	{Guarantee{"reply-lost", "a delivery after a lost reply gets that reply"}, false, false, replyLost},
	{Guarantee{"restart", "a duplicate after a restart is one"}, false, false, afterRestart},
	{Guarantee{"undo", "the compensation takes the effect back"}, true, false, undone},
	{Guarantee{"undo-without-reply", "so does one without the action's reply"}, true, false, undoneWithoutReply},
	{Guarantee{"undo-twice", "a second compensation has no effect"}, true, false, undoneTwice},
	{Guarantee{"undo-first", "a compensation before its action has no effect, and the action is refused"}, true, false,
		undoneFirst},
	{Guarantee{"late-action", "an action after its compensation is refused"}, true, false, lateAction},
	{Guarantee{"undo-beside-action", "an action and its compensation at the same time leave no effect"}, true, false,
		undoneBeside},
	{Guarantee{"refusal", "a refusal has no effect, stays, and carries a rejection of the contract"}, false, true,
		refusal},
	{Guarantee{"pending", "an accepted command stays accepted until it is completed once"}, false, false, pending},
	{Guarantee{"pending-undone", "a completion after the compensation has no effect"}, true, false, pendingUndone},
	{Guarantee{"done-mark", "an OK that completes a long command is marked done"}, false, false, doneMark},
	{Guarantee{"stale-epoch", "a replaced orchestrator's command is refused"}, false, false, staleEpoch},
	{Guarantee{"epoch-ahead", "an epoch far in the future isn't believed"}, false, false, epochAhead},
	{Guarantee{"other-request", "another request under a known command id is refused"}, false, false, otherRequest},
	{Guarantee{"broken-metadata", "a command with damaged metadata isn't executed"}, false, false, brokenMetadata},
	{Guarantee{"no-metadata", "a call without metadata is an ordinary call"}, false, true, noMetadata},
	{Guarantee{"marks", "errors say what they cover"}, false, false, marks},
	{Guarantee{"list", "ListCommands tells what became of a command"}, false, false, listed},
	{Guarantee{"close", "CloseCommand tells what became of an action, or keeps it from being executed"}, false, false,
		closed},
	{Guarantee{"horizon", "a command from before the horizon isn't executed"}, false, false, horizon},
}

// aboutEffects are the guarantees of which the answers alone say little.
var aboutEffects = []string{"undo", "undo-without-reply", "undo-twice"}
