package engine

import (
	"context"
	"time"

	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/machine"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Dispatcher calls participants. All methods may be called concurrently.
type Dispatcher interface {
	// Attempt makes one gRPC call and says what it came to. It never retries. It ends when the call's timeout passes or
	// ctx ends; then the outcome is what gRPC's code for that means, which is unknown.
	Attempt(ctx context.Context, call *Attempt) Result

	// Delay returns how long to wait after the given attempt (counted from 1) before the next, with jitter, by the call's
	// policy and what the participant asked for.
	Delay(call *contract.Call, attempt int, result Result) time.Duration

	// Parked calls wake once the method's participant may be called again and returns true, when its breaker is open; else
	// it returns false and never calls wake. A cancel function takes wake back.
	Parked(method string, wake func()) (cancel func(), parked bool)
}

// Direction says whether a command is sent to do or to undo.
type Direction = machine.Direction

// The directions.
const (
	Action       = machine.Action
	Compensation = machine.Compensation
)

// Attempt is one gRPC call to be made for a step.
type Attempt struct {
	// Saga is the saga's name, "sagas/{saga}".
	Saga string

	// Step is the step's path, e.g. "3". The command id is "{Saga}/steps/{Step}", the same for all attempts and for both
	// directions.
	Step string

	// Direction is whether it does or undoes.
	Direction Direction

	// Number counts the attempts, from 1; those of an earlier process don't count.
	Number int

	// Undoes is the number of the action's last attempt, for a compensation; 0 when it isn't known.
	Undoes int

	// Kind is the command's kind.
	Kind treatyv1.CommandKind

	// Epoch is the fencing epoch under which the command is sent.
	Epoch uint64

	// Call is what is called.
	Call *contract.Call

	// Request is the serialized request.
	Request []byte

	// Trace is what the attempt's span hangs from; nil when the saga has no trace.
	Trace *treatyv1.TraceAnchor
}

// Result is what an attempt came to.
type Result struct {
	// Outcome is never unspecified.
	Outcome treatyv1.Outcome

	// Reply is the serialized reply when the outcome is done.
	Reply []byte

	// Failure is the status when the outcome isn't done.
	Failure *treatyv1.Failure

	// RetryAfter is how long the participant asked to be left alone; 0 when it didn't.
	RetryAfter time.Duration
}
