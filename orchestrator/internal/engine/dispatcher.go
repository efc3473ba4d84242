package engine

import (
	"context"
	"time"

	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Dispatcher calls participants. All methods may be called concurrently.
type Dispatcher interface {
	// Attempt makes one gRPC call and says what it came to. It never retries. It ends when the call's timeout passes or
	// ctx ends; then the outcome is what gRPC's code for that means, which is unknown.
	Attempt(ctx context.Context, call *Attempt) Answer

	// Delay returns how long to wait after the given attempt (counted from 1) before the next, with jitter, by the call's
	// policy and what the participant asked for.
	Delay(call *contract.CallConfig, attempt int, result Answer) time.Duration

	// Parked calls wake once the destination's participant may be called again and returns true, when its breaker is open; else
	// it returns false and never calls wake. A cancel function takes wake back.
	Parked(to Destination, wake func()) (cancel func(), parked bool)

	// Discover returns the names of the participants that serve a service, sorted, as they said themselves. As long as one of those that are
	// configured has never said what it serves, known is false, and wake is called when asking again may tell more; a cancel
	// function takes wake back.
	Discover(service string, wake func()) (found Discovered, cancel func())
}

// Destination is where a command goes.
type Destination struct {
	// Method is the method's name, e.g. "acme.customer.v1.CustomerService/ChangeAddress".
	Method string

	// Participant names the participant that a broadcast's step goes to: the first service that it is configured with. Empty: the
	// one that is configured for the method's service.
	Participant string
}

// Discovered says who serves a service.
type Discovered struct {
	// Participants are their names, sorted.
	Participants []string

	// Known is false as long as a participant hasn't said what it serves.
	Known bool

	// Silent are the names of those that have never said it, sorted.
	Silent []string
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
	Call *contract.CallConfig

	// Participant names the participant that a broadcast's step goes to; empty for every other step. See Destination.
	Participant string

	// Request is the serialized request.
	Request []byte

	// Trace is what the attempt's span hangs from; nil when the saga has no trace.
	Trace *treatyv1.TraceAnchor
}

// Answer is what an attempt came to.
type Answer struct {
	// Outcome is never unspecified.
	Outcome treatyv1.Outcome

	// Reply is the serialized reply when the outcome is done.
	Reply []byte

	// Failure is the status when the outcome isn't done.
	Failure *treatyv1.Failure

	// RetryAfter is how long the participant asked to be left alone; 0 when it didn't.
	RetryAfter time.Duration

	// Pending is set, and the outcome unknown, when the participant has accepted the command and completes it later: how long to wait
	// for a completion or a heartbeat before the command is sent again.
	Pending time.Duration
}
