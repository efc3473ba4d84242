package engine

import (
	"context"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/admission"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// Dispatcher calls participants. All methods may be called concurrently.
type Dispatcher interface {
	// Attempt makes one gRPC call and returns its answer. It never retries. It ends when the call's timeout passes or
	// ctx ends; the outcome of such an attempt is unknown.
	Attempt(ctx context.Context, attempt *Attempt) Answer

	// Delay returns how long to wait between an attempt (counted from 1) and the next one, with jitter, by the call's
	// retry policy and by what the participant asked for.
	Delay(call *contract.CallConfig, attempt int, answer Answer) time.Duration

	// Admit asks for the slot that Attempt or CloseCommand needs. It returns the slot, which may be nil; or a wait if
	// the participant is down or has enough to do. Then granted is called once with the slot when it is the command's
	// turn, unless the wait was cancelled before. It must not block. Pass the slot in the attempt, or release it.
	Admit(to Destination, call *contract.CallConfig, claim admission.Claim, granted func(*admission.Slot)) (
		*admission.Slot, *admission.Wait)

	// FirstWaitsSince returns since when the first command of a saga of a definition waits for a slot, of the saga that
	// gets the next one. It returns false if none waits, or if they wait because the participant is down.
	FirstWaitsSince(definition string) (since time.Time, waits bool)

	// CloseCommand asks an action's participant what became of it, and makes sure that it isn't executed any more if
	// nothing did. It makes one gRPC call, which may be repeated.
	CloseCommand(ctx context.Context, attempt *Attempt) Closed

	// LookUp returns what an action's participant holds about the step, without changing anything. It makes one or a
	// few gRPC calls.
	LookUp(ctx context.Context, attempt *Attempt) Known

	// TakingPart returns the names of the participants that take part in the broadcasts of a service, sorted. The
	// configuration says who does, so the answer never changes.
	TakingPart(service string) []string
}

// Destination is where a command goes.
type Destination struct {
	// Method is the command's method, e.g. "acme.customer.v1.CustomerService/ChangeAddress".
	Method string

	// Participant names the participant that a broadcast's step goes to, by the first service that it is
	// configured with. Empty: the participant that is configured for the method's service.
	Participant string
}

// Direction says whether a command is an action or a compensation.
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

	// Step is the step's path, e.g. "3". The command id, "{Saga}/steps/{Step}", is the same for all attempts and both
	// directions.
	Step string

	// Direction says whether the command is the action or the compensation.
	Direction Direction

	// Number counts the attempts that this process makes, from 1.
	Number int

	// Kind is the command's kind.
	Kind treatyv1.CommandKind

	// Epoch is the fencing epoch of this process, and Scope what it belongs to; empty if participants aren't told.
	Epoch uint64
	Scope string

	// Call says how the method is called.
	Call *contract.CallConfig

	// Participant names the participant that a broadcast's step goes to; empty for every other step. See Destination.
	Participant string

	// Slot is the permission to call the participant. The call ends it.
	Slot *admission.Slot

	// Request is the serialized request.
	Request []byte

	// Digest is the digest of the action's request, for both directions. See wire.RequestDigest.
	Digest string

	// SagaStart is when the saga started.
	SagaStart time.Time

	// Trace is the parent of the attempt's span; nil when the saga has no trace.
	Trace *treatyv1.TraceAnchor
}

// Answer is what an attempt returned.
type Answer struct {
	// Outcome is never unspecified. It also says how long to wait before the next attempt.
	Outcome treatyv1.Outcome

	// Evidence says what the answer proves about this attempt and earlier ones.
	Evidence Evidence

	// Repeated says that the transport sent the command more than once, so an earlier sending may have been executed.
	Repeated bool

	// Halt is set when sending the command again can't help, and a person has to look.
	Halt Halt

	// LaterEpoch is the epoch that the participant knows, if Halt is HaltReplaced and the participant says it.
	LaterEpoch uint64

	// Reply is the serialized reply when the outcome is done.
	Reply []byte

	// Failure is the status when the outcome isn't done.
	Failure *treatyv1.Failure

	// RetryAfter is how long the participant asked to wait before the next attempt; 0 when it didn't.
	RetryAfter time.Duration

	// Pending is set, and the outcome unknown, when the participant accepted the command and completes it later. It is
	// how long to wait for a completion or a heartbeat before the command is sent again.
	Pending time.Duration
}

// Evidence is what an answer proves about whether a command was executed.
type Evidence int

const (
	// NoEvidence means that this attempt may have been executed. It is the zero value, so that what nobody has thought
	// of leaves a doubt.
	NoEvidence Evidence = iota

	// AttemptNotRun means that this attempt certainly wasn't executed and never will be. Nothing follows for other
	// attempts.
	AttemptNotRun

	// Settled means that the answer holds for all attempts, earlier and later.
	Settled
)

// Halt is a reason not to send a command again.
type Halt int

const (
	// NoHalt means that the outcome says what follows.
	NoHalt Halt = iota

	// HaltReplaced means that the participant knows a later epoch of this store's scope, so another store has taken
	// over.
	HaltReplaced

	// HaltOtherRequest means that the participant knows another request under the command id.
	HaltOtherRequest

	// HaltPurged means that the participant no longer knows what became of the command.
	HaltPurged
)

// Closed is what a participant answered to CloseCommand.
type Closed struct {
	// Verdict is what became of the action. It is NotAnswered when the call failed and may be repeated.
	Verdict Verdict

	// Halt is set when the participant answered and the question can't be asked again. Then Verdict is NotAnswered.
	Halt Halt

	// LaterEpoch is the epoch that the participant knows, if Halt is HaltReplaced and the participant says it.
	LaterEpoch uint64

	// Reply is the serialized reply of an action that was executed.
	Reply []byte

	// Failure is the stored refusal of an action that was refused, and the failure of a call that wasn't answered.
	Failure *treatyv1.Failure
}

// Verdict is what a participant says became of a command.
type Verdict int

const (
	// NotAnswered means that the participant couldn't be asked, or its answer can't be read.
	NotAnswered Verdict = iota

	// NotKept means that the participant can't say, because it doesn't keep what became of the method's commands.
	NotKept

	// NeverSeen means that the participant has never received the command. CloseCommand answers ClosedNow instead.
	NeverSeen

	// WasExecuted means that the command was executed.
	WasExecuted

	// WasAccepted means that the command was accepted and isn't completed yet.
	WasAccepted

	// WasRefused means that the command was refused.
	WasRefused

	// WasCompensated means that the action was compensated, or its compensation arrived first.
	WasCompensated

	// ClosedNow means that the command had never arrived, and is refused from now on.
	ClosedNow
)

// Known is what a participant holds about a step.
type Known struct {
	// Verdict is what became of the action.
	Verdict Verdict

	// Method and Digest are the method that was called and the digest that came with it. They are empty when the
	// participant doesn't know them.
	Method, Digest string

	// Failure says why the participant couldn't be asked, when Verdict is NotAnswered.
	Failure *treatyv1.Failure
}
