package engine

import (
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// closeTimeout is how long a participant is asked what became of a command whose contract says nothing of giving up.
const closeTimeout = 10 * time.Minute

// decisive returns whether a saga can't go on in any direction while it is unknown whether the command was executed:
// it is the action of a pivot or a retriable command.
func (d *delivery) decisive() bool {
	return d.key.direction == Action && (d.kind == treatyv1.CommandKind_COMMAND_KIND_PIVOT ||
		d.kind == treatyv1.CommandKind_COMMAND_KIND_RETRIABLE)
}

// giveUp ends a command that isn't sent any more. When the saga depends on what became of it, the participant is asked
// first, and giveUp returns false. The caller holds the lock.
func (s *sender) giveUp(d *delivery) (machine.CommandEnded, bool) {
	if d.inDoubt && d.decisive() {
		return s.startClosing(d)
	}
	return d.commandEnded(d.outcomeOnGivingUp()), true
}

// startClosing makes the next attempt ask the participant what became of the command. The caller holds the lock.
func (s *sender) startClosing(d *delivery) (machine.CommandEnded, bool) {
	d.closing, d.closeStart, d.paused = true, s.config.now(), 0
	return machine.CommandEnded{}, false
}

// askToClose asks the participant what became of a command. It returns the command's end, or false when the participant
// has to be asked again.
func (s *sender) askToClose(d *delivery, attempt *Attempt) (machine.CommandEnded, bool) {
	closed := s.config.Dispatcher.CloseCommand(s.work.ctx, attempt)

	d.inst.mu.Lock()
	defer d.inst.mu.Unlock()
	d.sending = false
	switch closed.Verdict {
	case WasExecuted:
		d.last = Answer{Reply: closed.Reply}
		return d.commandEnded(machine.Done), true
	case WasAccepted:
		return d.commandEnded(machine.Accepted), true
	case WasRefused, WasCompensated, ClosedNow, NeverSeen:
		d.inDoubt = false
		if closed.Failure != nil {
			d.last.Failure = closed.Failure
		}
		return d.commandEnded(machine.Refused), true
	case NotKept:
		return d.commandEnded(d.outcomeInDoubt()), true
	case NotAnswered:
	}
	switch closed.Halt {
	case HaltOtherRequest:
		d.last.Failure = closed.Failure
		return d.commandEnded(machine.OtherRequest), true
	case HaltPurged:
		return d.commandEnded(machine.Purged), true
	case HaltReplaced:
		s.gate.replaced(replacedBy(d.call.Method, closed.Failure), closed.LaterEpoch)
		return machine.CommandEnded{}, false
	case NoHalt:
	}
	if s.work.ctx.Err() != nil || d.ended {
		return machine.CommandEnded{}, false
	}
	if leftOut, due := s.unasked.due(); due {
		s.config.Logger.Warn("a participant can't be asked what became of a command; asking again",
			"saga", attempt.Saga, "step", d.key.step, "method", d.call.Method,
			"error", closed.Failure.GetMessage(), "left_out", leftOut)
	}
	limit := d.call.Retry.GiveUpAfter
	if limit <= 0 {
		limit = closeTimeout
	}
	if s.config.now().Sub(d.closeStart)-d.paused >= limit {
		return d.commandEnded(d.outcomeInDoubt()), true
	}
	s.waitForRetry(d, s.config.Dispatcher.Delay(d.call, d.attempts, Answer{
		Outcome: treatyv1.Outcome_OUTCOME_UNKNOWN, Failure: closed.Failure,
	}))
	return machine.CommandEnded{}, false
}

// replacedBy says which participant knows that the store was replaced.
func replacedBy(method string, failure *treatyv1.Failure) string {
	return "the participant of " + method + " knows a later epoch: " + failure.GetMessage()
}

// outcomeInDoubt is the outcome of a command of which nobody can say what became of it: the refusal of its last
// attempt, if there was one.
func (d *delivery) outcomeInDoubt() machine.Outcome {
	if d.last.Outcome == treatyv1.Outcome_OUTCOME_REFUSED {
		return machine.Refused
	}
	return machine.Unknown
}

// otherCommand returns what a participant said about the command that it knows under the command id.
func otherCommand(failure *treatyv1.Failure) *machine.OtherCommand {
	for _, detail := range failure.GetDetails() {
		var info errdetails.ErrorInfo
		if detail.UnmarshalTo(&info) == nil && info.GetDomain() == wire.ErrorDomain {
			return &machine.OtherCommand{
				Method: info.GetMetadata()[wire.ErrorMethod], Digest: info.GetMetadata()[wire.ErrorDigest],
			}
		}
	}
	return nil
}
