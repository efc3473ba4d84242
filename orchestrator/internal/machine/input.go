package machine

import (
	"errors"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
)

// Errors of [Machine.Apply]. Nothing is recorded then.
var (
	// ErrPastPivot means that the saga has passed its pivot, so it can't compensate.
	ErrPastPivot = errors.New("the saga is past its pivot")

	// ErrPivotInFlight means that the outcome of the saga's pivot is open, so it isn't known yet whether the saga can
	// compensate.
	ErrPivotInFlight = errors.New("the saga's pivot is in flight")

	// ErrChanged means that the saga has changed since the etag of the decision was read.
	ErrChanged = errors.New("the saga has changed since")

	// ErrEnded means that the saga has ended in another way.
	ErrEnded = errors.New("the saga has ended")

	// ErrNotSuspended means that the saga is not suspended.
	ErrNotSuspended = errors.New("the saga is not suspended")

	// ErrDecisionUnfit means that the operator's decision doesn't fit the reason of the suspension.
	ErrDecisionUnfit = errors.New("the decision doesn't fit the suspension")

	// ErrStepNotFound means that the saga has no such step, or that the step is not being compensated.
	ErrStepNotFound = errors.New("no such step")

	// ErrReplyTooLarge means that the reply leaves no room for the compensation, whose request has the action's request
	// and reply.
	ErrReplyTooLarge = errors.New("with this reply, the step's compensation couldn't be sent")

	// ErrStepEnded means that the step has ended with another outcome, or that its saga no longer waits for it.
	ErrStepEnded = errors.New("the step has ended")
)

// Input is something that happened to a saga.
type Input interface{ input() }

// Start starts a saga. It is the first input of each saga.
type Start struct {
	// Started is the first record of the journal.
	Started *treatyv1.SagaStarted

	// Restored says what participants know about a saga whose start was lost with the store. It is nil for any other
	// saga.
	Restored *treatyv1.SagaRestored

	// Compensated means that the parent has compensated this child saga before it started. The saga ends at once, and
	// its code never runs.
	Compensated bool

	// Decision is that of the person who has undone by hand what a lost child did, if Compensated is set. Otherwise it
	// is nil.
	Decision *treatyv1.Decision
}

// CommandEnded is the end of a command: an attempt had a final outcome, or the orchestrator gave up. It has no effect
// if the saga doesn't wait for the command.
type CommandEnded struct {
	// Step is the step's path.
	Step string

	// Direction is the direction of the command.
	Direction Direction

	// Outcome is the outcome of the command.
	Outcome Outcome

	// Reply is the serialized reply if the command is done.
	Reply []byte

	// MayHaveRun means that an attempt before the one that was refused may have been executed. Only an action that is
	// Refused has it.
	MayHaveRun bool

	// Failure is the participant's status if the command isn't done.
	Failure *treatyv1.Failure

	// Other is what the participant knows under the command id, if the outcome is OtherRequest.
	Other *OtherCommand

	// Attempts is the number of attempts.
	Attempts uint32

	// Decision is that of the person who has completed the command on its participant's behalf, or nil.
	Decision *treatyv1.Decision

	// Principal is the id of the principal that has completed the command, or empty.
	Principal string

	// Etag is what the person saw, if the command is completed; see [Etag]. If it is empty, the saga may have changed.
	Etag string
}

// OtherCommand is the command that a participant knows under the command id of a step with another request.
type OtherCommand struct {
	// Method is the command's method, and Digest the digest of its request, in hex. They are empty if the participant
	// doesn't say.
	Method, Digest string
}

// Outcome is the outcome of a command.
type Outcome int

// The outcomes of a command.
const (
	// Done means that the command was executed.
	Done Outcome = iota + 1

	// Refused means that the participant refused the command, or that it was never sent. It was certainly not executed,
	// unless MayHaveRun is set.
	Refused

	// Unknown means that the orchestrator gave up, and that the command may have been executed.
	Unknown

	// Accepted means that the orchestrator gave up waiting, and that the participant has accepted the command and
	// hasn't completed it.
	Accepted

	// OtherRequest means that the participant knows another request under the command id, so it executes neither this
	// one nor its compensation.
	OtherRequest

	// Purged means that the participant no longer knows what became of the command.
	Purged
)

// Cancel compensates the saga on request. It fails with [ErrChanged], [ErrPastPivot], [ErrPivotInFlight] or, if the
// saga has succeeded, [ErrEnded]. It has no effect if the saga compensates already.
type Cancel struct {
	// Decision says who cancels the saga, and why.
	Decision *treatyv1.Decision

	// Etag is what whoever decides saw; see [Etag]. If it is empty, the saga may have changed.
	Etag string
}

// Resume is an operator's decision about a suspended saga. It fails with [ErrChanged], [ErrNotSuspended],
// [ErrReplyTooLarge] or [ErrDecisionUnfit].
type Resume struct {
	// Decision says who decides, and why.
	Decision *treatyv1.Decision

	// Etag is what whoever decides saw; see [Etag]. If it is empty, the saga may have changed.
	Etag string

	// Step is the step that the decision is about. The decision doesn't fit if another step is stuck. If Step is empty,
	// the decision is about the stuck step.
	Step string

	// Action is what to do.
	Action ResumeAction

	// Payload is the serialized request for RetryEdited, or the serialized reply for MarkDone and TakeOver.
	Payload []byte

	// Refusal is the participant's refusal for TakeOver. If it is nil, the participant has executed the command.
	Refusal *treatyv1.Failure

	// Digest is the digest under which the participant keeps the command, for TakeOver.
	Digest string
}

// ResumeAction says how to resume a suspended saga.
type ResumeAction int

// The ways to resume a saga.
const (
	// Retry runs the code again, or sends the stuck command again.
	Retry ResumeAction = iota + 1

	// RetryEdited sends the stuck compensation with another request.
	RetryEdited

	// MarkDone marks the stuck compensation or pivot as done.
	MarkDone

	// MarkRefused marks the stuck pivot as refused, that is, not executed.
	MarkRefused

	// TakeOver takes over what the participant knows under the command id of the stuck action.
	TakeOver
)

// EventReceived is an event that was published. It has no effect if the saga doesn't wait for it, or has taken a later
// event with its key.
type EventReceived struct {
	// Key is the key by which the event is awaited.
	Key *treatyv1.EventKey

	// Event is the event. Its index is ignored.
	Event *treatyv1.EventArrived
}

// Discovered names the participants of a broadcast. It has no effect if the code doesn't wait for the broadcast.
type Discovered struct {
	// Path is the broadcast's path.
	Path string

	// Participants are the names of the participants. It is empty if no participant serves the command.
	Participants []string
}

// CommandCompleted is the end of a command that its participant accepted before. It may come more than once. It fails
// with [ErrStepNotFound], [ErrChanged], [ErrReplyTooLarge] or [ErrStepEnded].
type CommandCompleted CommandEnded

// CompensateForParent compensates a child saga for its parent, even if it has succeeded. It fails with [ErrPastPivot]
// or [ErrPivotInFlight].
type CompensateForParent struct{}

// KeyMissing says that an event which the saga awaits is sealed with a key that is missing. It suspends the saga.
type KeyMissing struct {
	// Message says which key is missing and what to do.
	Message string
}

// TurnUnwritable says that the next turn of the saga can't be stored. It suspends the saga.
type TurnUnwritable struct {
	// Message says so, with the reason.
	Message string
}

// Misused says that the saga's code used its Context on another goroutine. It suspends the saga, unless that is no
// longer needed.
type Misused struct {
	// Message says so, with the place.
	Message string
}

// Wake makes the saga do what is due. Apply it after Replay, and when a timer fires.
type Wake struct{}

func (Start) input()               {}
func (CommandEnded) input()        {}
func (Cancel) input()              {}
func (Resume) input()              {}
func (Wake) input()                {}
func (TurnUnwritable) input()      {}
func (KeyMissing) input()          {}
func (Misused) input()             {}
func (EventReceived) input()       {}
func (Discovered) input()          {}
func (CommandCompleted) input()    {}
func (CompensateForParent) input() {}

// Direction is the direction of a command.
type Direction int

// The directions of a command.
const (
	// Action is the direction of a forward command.
	Action Direction = iota + 1

	// Compensation is the direction of a command that compensates an action.
	Compensation
)

// String returns the direction as in the metadata of a command: "action" or "compensation".
func (d Direction) String() string {
	if d == Compensation {
		return wire.Compensation
	}
	return wire.Action
}

// Effect is something to do after the turn that it came with is committed.
type Effect struct {
	// Discover asks for the participants of a broadcast. If it is nil, the effect is about a step.
	Discover *Discover

	// Step is the step.
	Step *Step

	// Direction is the direction of the step's command.
	Direction Direction

	// Fresh means that the command was scheduled in this turn, so that it was never sent before.
	Fresh bool

	// Abandon means that the command must not be sent again: wait for the attempt in flight, if there is one, and apply
	// its outcome, or Unknown. If Abandon is false, send the command until it ends.
	Abandon bool
}

// Discover asks for the participants that take part in a broadcast. Apply a [Discovered] with the answer.
type Discover struct {
	// Path is the broadcast's path.
	Path string

	// Method is the command's method.
	Method string
}
