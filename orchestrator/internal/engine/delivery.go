package engine

import (
	"time"

	"google.golang.org/grpc/codes"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/admission"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// delivery is a command in flight: from its durable intent to its recorded end, over all attempts that this process
// makes. Between attempts it costs a timer and no goroutine.
type delivery struct {
	inst *instance
	key  deliveryKey
	call *contract.CallConfig

	// The rest is guarded by inst.mu.

	request     []byte // nil while the saga is unloaded
	digest      string // of the action's request; empty while the saga is unloaded
	sagaStart   time.Time
	trace       *treatyv1.TraceAnchor
	kind        treatyv1.CommandKind
	claim       admission.Claim
	participant string // that a broadcast's step goes to; empty otherwise
	attempts    int
	last        Answer
	inDoubt     bool // an attempt may have been executed
	sending     bool // an attempt is being made
	abandoned   bool // no further attempt is made
	patient     bool // it is never given up, since a participant has answered it
	held        bool // nothing is sent, since a turn in the making may withdraw it
	due         bool // it would have been sent while it was held
	closing     bool // the participant is asked what became of it, instead of sending it
	ended       bool // its end is recorded, or is in the saga's mailbox

	waiting    bool // for a timer, a completion or its participant
	waitsLong  bool // so the saga may leave memory
	queued     bool // waiting for a slot
	accepted   bool // waiting for the completion by its participant
	promised   bool // the participant has accepted it at least once
	nextTime   time.Time
	stopWait   func()        // cancels what it waits for
	isDown     func() bool   // returns whether the participant can't be called; nil unless it is queued
	whyParked  func() string // returns why the method can't be called although the participant may be up; may be nil
	whyDown    func() string // returns why the participant can't be reached, or ""; may be nil
	startTime  time.Time
	pauseStart time.Time     // when it was queued or accepted
	paused     time.Duration // altogether; this time doesn't count against the command's retry policy

	patience   time.Duration // how long it waits for a completion or a heartbeat before the command is sent again
	completeBy time.Time     // when an accepted command is given up; zero means never
	deadline   time.Time     // when a pivot that was never sent is no longer to be sent; zero means never
	closeStart time.Time     // when the participant was first asked what became of it
}

// deliveryKey identifies a command within its saga.
type deliveryKey struct {
	step      string
	direction machine.Direction
}

// exhausted returns whether the command's retry policy says to give up. Time in which it waited for a slot
// doesn't count.
func (d *delivery) exhausted(now time.Time) bool {
	limit := d.call.Retry.GiveUpAfter
	return !d.patient && limit > 0 && now.Sub(d.startTime)-d.paused >= limit
}

// outcomeOnGivingUp is unknown when an attempt may have been executed. An action that was certainly not executed counts
// as refused. A compensation never does, since only an operator may decide that it was refused.
func (d *delivery) outcomeOnGivingUp() machine.Outcome {
	if d.inDoubt || d.key.direction == Compensation {
		return machine.Unknown
	}
	return machine.Refused
}

// commandEnded returns the input that records the command's end.
func (d *delivery) commandEnded(outcome machine.Outcome) machine.CommandEnded {
	end := machine.CommandEnded{
		Step: d.key.step, Direction: d.key.direction, Outcome: outcome, Attempts: uint32(d.attempts),
	}
	switch outcome {
	case machine.Done:
		end.Reply = nonNil(d.last.Reply)
		return end
	case machine.Refused:
		end.MayHaveRun = d.inDoubt
	case machine.OtherRequest:
		end.Other = otherCommand(d.last.Failure)
	}
	end.Failure = d.last.Failure
	if end.Failure == nil {
		end.Failure = cancelled("command not sent: the saga is already compensating")
	}
	return end
}

// abandon makes the attempt in flight the last one. The caller holds the lock and runs the saga.
func (d *delivery) abandon() {
	if d.abandoned || d.ended {
		return
	}
	d.abandoned = true
	if d.waiting && !d.closing {
		d.cancelWait()
		d.ended = true
		end := d.commandEnded(d.outcomeOnGivingUp())
		d.inst.put(message{input: end, delivery: d})
	}
}

// end removes the delivery of a command whose end was recorded in another way. The caller holds the lock.
func (d *delivery) end() {
	d.cancelWait()
	d.ended = true
	d.inst.deliveries.remove(d.key)
}

// cancelWait cancels what the delivery waits for. The caller holds the lock.
func (d *delivery) cancelWait() {
	d.waiting = false
	if d.stopWait != nil {
		d.stopWait()
		d.stopWait = nil
	}
}

// wasAccepted returns whether the participant has accepted a command in flight, as far as this process knows.
func (i *instance) wasAccepted(key deliveryKey) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	d := i.deliveries.get(key)
	return d != nil && d.promised
}

// endCompleted ends the delivery of a command that its participant completed. The caller holds the lock and runs the
// saga.
func (i *instance) endCompleted(completed machine.CommandCompleted) {
	d := i.deliveries.get(deliveryKey{completed.Step, completed.Direction})
	if d == nil {
		return
	}
	if step := i.machine.Saga().Step(completed.Step); step != nil && inFlight(step, completed.Direction) {
		return // the completion was rejected
	}
	d.end()
}

// inFlight returns whether a step's command has no end yet.
func inFlight(step *machine.Step, direction Direction) bool {
	if direction == Compensation {
		return step.State == treatyv1.StepState_STEP_STATE_COMPENSATING
	}
	return step.State == treatyv1.StepState_STEP_STATE_SCHEDULED
}

func cancelled(message string) *treatyv1.Failure {
	return &treatyv1.Failure{Code: int32(codes.Canceled), Message: message}
}

// nonNil tells an empty message from a missing one.
func nonNil(data []byte) []byte {
	if data == nil {
		return []byte{}
	}
	return data
}
