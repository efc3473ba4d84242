package machine

import (
	"errors"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Causes for which an input is turned down. Nothing is recorded then.
var (
	// ErrPastPivot says that the saga can't be undone any more.
	ErrPastPivot = errors.New("the saga is past its pivot")

	// ErrPivotInFlight says that the pivot's outcome is open, so that it isn't known yet whether the saga can be undone.
	ErrPivotInFlight = errors.New("the saga's pivot is under way")

	// ErrEnded says that the saga has ended otherwise.
	ErrEnded = errors.New("the saga has ended")

	// ErrNotSuspended says that the saga doesn't wait for an operator.
	ErrNotSuspended = errors.New("the saga isn't suspended")

	// ErrDecisionUnfit says that the operator's decision doesn't fit why the saga is suspended.
	ErrDecisionUnfit = errors.New("the decision doesn't fit the suspension")

	// ErrStepNotFound says that the saga has no such step, or that it isn't being undone.
	ErrStepNotFound = errors.New("no such step")

	// ErrStepEnded says that the step ended otherwise, or that nobody waits for it any more.
	ErrStepEnded = errors.New("the step is over")
)

// Input is something that happened to a saga.
type Input interface{ input() }

// Start is the acceptance of a saga, the first input of each.
type Start struct {
	// Started is recorded as it is.
	Started *treatyv1.SagaStarted

	// Compensated says that its parent undoes the saga before it began: it ends at once, and nothing runs.
	Compensated bool
}

// CommandEnded is the end of a command: one of its attempts settled it, or the orchestrator gave up. For a step that isn't waiting for
// it any more it changes nothing.
type CommandEnded struct {
	// Step is the step's path.
	Step string

	// Direction is whether the action ended or the compensation.
	Direction Direction

	// Outcome is how it ended.
	Outcome Outcome

	// Reply is the serialized reply when it is done.
	Reply []byte

	// Failure is the participant's status when it isn't.
	Failure *treatyv1.Failure

	// Attempts is how many attempts were made.
	Attempts uint32
}

// Outcome is how a command ended.
type Outcome int

// The ends of a command.
const (
	// Done: executed.
	Done Outcome = iota + 1

	// Refused: certainly not executed.
	Refused

	// Unknown: given up, may have been executed.
	Unknown
)

// Cancel asks to undo the saga. It is turned down with ErrPastPivot, ErrPivotUnderWay or, when the saga has succeeded, ErrFinal.
type Cancel struct {
	// Decision is who asks, and why.
	Decision *treatyv1.Decision
}

// Resume is an operator's decision about a suspended saga. It is turned down with ErrNotSuspended or ErrUnfit.
type Resume struct {
	// Decision is who decides, and why.
	Decision *treatyv1.Decision

	// Step is the step that the decision is about. It doesn't fit when another one is stuck; empty means whichever is.
	Step string

	// How is what the operator decided.
	How ResumeHow

	// Payload is the serialized request for RetryEdited, or the serialized reply for MarkDone.
	Payload []byte
}

// ResumeHow is how a suspended saga goes on.
type ResumeHow int

// The decisions of an operator.
const (
	// Retry runs the code again, or sends the stuck command again.
	Retry ResumeHow = iota + 1

	// RetryEdited sends the stuck compensation with another request.
	RetryEdited

	// MarkDone takes the stuck compensation or pivot as done.
	MarkDone

	// MarkRefused takes the stuck pivot as certainly not executed.
	MarkRefused
)

// EventReceived is an event that came. When no wait is for it, or the saga took a later one of its key, it changes nothing.
type EventReceived struct {
	// Key is what it is awaited by.
	Key *treatyv1.EventKey

	// Arrived is the event; its index isn't read.
	Arrived *treatyv1.EventArrived
}

// Discovered says to whom a broadcast goes. When the code doesn't wait for it any more it changes nothing.
type Discovered struct {
	// Path is the broadcast's path.
	Path string

	// Participants are their names; empty when nobody serves the command.
	Participants []string
}

// CommandCompleted is the end of a command that its participant accepted before. It is turned down with ErrNoStep or ErrStepOver.
type CommandCompleted CommandEnded

// CompensateForParent is a parent's wish to undo the saga, which may have succeeded. It is turned down with ErrPastPivot or ErrPivotUnderWay.
type CompensateForParent struct{}

// Unwritable says that the turn that the saga's code came to can't be stored. It suspends the saga.
type Unwritable struct {
	// Message is why.
	Message string
}

// Wake lets the saga do what is due: after loading, and when a timer fires.
type Wake struct{}

func (Start) input()               {}
func (CommandEnded) input()        {}
func (Cancel) input()              {}
func (Resume) input()              {}
func (Wake) input()                {}
func (Unwritable) input()          {}
func (EventReceived) input()       {}
func (Discovered) input()          {}
func (CommandCompleted) input()    {}
func (CompensateForParent) input() {}

// Direction says whether a command is sent to do or to undo.
type Direction int

// The directions.
const (
	Action Direction = iota + 1
	Compensation
)

// String returns the direction as it stands in metadata: "action" or "compensation".
func (d Direction) String() string {
	if d == Compensation {
		return "compensation"
	}
	return "action"
}

// Effect is something to be done once the turn that it came with is committed.
type Effect struct {
	// Discover is the broadcast of which it is to be found out to whom it goes; nil when the effect is about a step.
	Discover *Discover

	// Step is the step that it is about.
	Step *Step

	// Direction is whether its action or its compensation is meant.
	Direction Direction

	// Abandon says not to send the command any more: wait for the attempt under way, if there is one, and tell its
	// outcome, or Unknown. False: send the command until it ends.
	Abandon bool
}

// Discover is a broadcast of which it isn't known yet to whom it goes. The answer is a Discovered.
type Discover struct {
	// Path is the broadcast's path.
	Path string

	// Method is the command's method.
	Method string
}
