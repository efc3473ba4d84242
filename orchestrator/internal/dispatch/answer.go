package dispatch

import (
	"strconv"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
)

// failed returns the answer of a call that ended with a status other than OK. It says what happened to the command,
// and what that proves. Anybody on the way can make up a status, so a status counts only if it is the participant's
// word: it came as gRPC, and is marked or comes from a participant that marks nothing.
func (p *participant) failed(call *engine.Attempt, x *exchange, st *status.Status) engine.Answer {
	failure, retryAfter := failureOf(st)
	answer := engine.Answer{
		Outcome: contract.OutcomeOf(call.Call, st.Code()), Failure: failure, RetryAfter: retryAfter,
		Repeated: x.sendings.Load() > 1 || p.answers == AnswersRepeated,
	}
	mark := x.mark()
	if mark != "" {
		p.prove()
	}
	switch {
	case mark == "" && replyTooLarge(st):
		answer.Outcome = treatyv1.Outcome_OUTCOME_UNKNOWN
	case x.sendings.Load() == 0:
		answer.Outcome, answer.Evidence = madeHere(st.Code()), engine.AttemptNotRun
	case !x.answered.Load():
		answer.Outcome = madeHere(st.Code())
	case mark == wire.AnswerSettled:
		answer.Outcome, answer.Evidence = treatyv1.Outcome_OUTCOME_REFUSED, engine.Settled
	case mark == wire.AnswerAttempt || mark == "" && p.isPlain():
		p.believe(&answer, senderOf(call), st, mark)
	default:
		p.doubt(&answer, st)
	}
	if answer.Outcome == treatyv1.Outcome_OUTCOME_REFUSED {
		if answer.Evidence == engine.NoEvidence {
			answer.Outcome = treatyv1.Outcome_OUTCOME_UNKNOWN
		} else {
			answer.RetryAfter = 0
		}
	}
	return answer
}

// believe completes an answer that is the participant's word about this attempt. A mark says more than a declaration,
// which may be older than the participant.
func (p *participant) believe(answer *engine.Answer, to sender, st *status.Status, mark string) {
	switch reason, more := reasonOf(st); reason {
	case treatyv1.ErrorReason_ERROR_REASON_STALE_EPOCH:
		answer.Evidence = engine.AttemptNotRun
		if to.scope == "" || isLater(more[wire.ErrorEpoch], to.epoch) {
			answer.Halt, answer.LaterEpoch = engine.HaltReplaced, laterEpoch(more)
		}
		return
	case treatyv1.ErrorReason_ERROR_REASON_METADATA_INVALID:
		// Something on the way has dropped a key, which is nobody's decision about the command.
		answer.Outcome, answer.Evidence = treatyv1.Outcome_OUTCOME_MISDEPLOYED, engine.AttemptNotRun
		return
	case treatyv1.ErrorReason_ERROR_REASON_OTHER_REQUEST:
		answer.Halt, answer.Evidence = engine.HaltOtherRequest, engine.AttemptNotRun
		return
	case treatyv1.ErrorReason_ERROR_REASON_PURGED:
		answer.Halt, answer.Evidence = engine.HaltPurged, engine.AttemptNotRun
		return
	}
	switch answer.Outcome {
	case treatyv1.Outcome_OUTCOME_UNKNOWN:
	case treatyv1.Outcome_OUTCOME_REFUSED:
		answer.Evidence = engine.AttemptNotRun
		if mark == "" && p.answers == AnswersSettled {
			answer.Evidence = engine.Settled
		}
	default:
		answer.Evidence = engine.AttemptNotRun
	}
}

// doubt completes an answer that somebody else may have made up. Its code still says how long to wait.
func (p *participant) doubt(answer *engine.Answer, st *status.Status) {
	switch answer.Outcome {
	case treatyv1.Outcome_OUTCOME_UNKNOWN:
		return
	case treatyv1.Outcome_OUTCOME_REFUSED:
		answer.Outcome = treatyv1.Outcome_OUTCOME_UNKNOWN
	}
	p.warnUnmarked(st)
}

// madeHere returns the default outcome of a code that this side made. What a contract says of the code holds for
// the participant's answers only. A refusal isn't one: it is made for an answer that isn't gRPC.
func madeHere(code codes.Code) treatyv1.Outcome {
	if outcome := contract.OutcomeOf(nil, code); outcome != treatyv1.Outcome_OUTCOME_REFUSED {
		return outcome
	}
	return treatyv1.Outcome_OUTCOME_UNKNOWN
}

// isLater returns whether an epoch that a participant knows has replaced the one under which it was called. A
// participant that knows none later has received another epoch than was sent: something on the way has dropped it. One
// that doesn't say which epoch it knows, of an earlier version, is believed.
func isLater(epoch string, own uint64) bool {
	known, err := strconv.ParseUint(epoch, 10, 64)
	return err != nil || known > own
}

// laterEpoch returns the epoch that a participant says it knows, or 0.
func laterEpoch(more map[string]string) uint64 {
	epoch, err := strconv.ParseUint(more[wire.ErrorEpoch], 10, 64)
	if err != nil {
		return 0
	}
	return epoch
}

// reasonOf returns the reason in a status of a participant's library or inbox, or UNSPECIFIED, and its metadata.
func reasonOf(st *status.Status) (reason treatyv1.ErrorReason, more map[string]string) {
	switch st.Code() {
	case codes.Aborted, codes.Internal, codes.Unauthenticated, codes.InvalidArgument:
	default:
		return treatyv1.ErrorReason_ERROR_REASON_UNSPECIFIED, nil
	}
	for _, detail := range st.Proto().GetDetails() {
		var info errdetails.ErrorInfo
		if detail.UnmarshalTo(&info) == nil && info.GetDomain() == wire.ErrorDomain {
			return wire.ParseReason(info.GetReason()), info.GetMetadata()
		}
	}
	return treatyv1.ErrorReason_ERROR_REASON_UNSPECIFIED, nil
}

// notSent is the answer to a command that was certainly not sent.
func notSent(outcome treatyv1.Outcome, st *status.Status) engine.Answer {
	failure, _ := failureOf(st)
	return engine.Answer{Outcome: outcome, Evidence: engine.AttemptNotRun, Failure: failure}
}

// unknown is the answer to a command that may have been executed.
func unknown(st *status.Status) engine.Answer {
	failure, _ := failureOf(st)
	return engine.Answer{Outcome: treatyv1.Outcome_OUTCOME_UNKNOWN, Failure: failure}
}

// replyTooLarge returns whether gRPC may have refused a reply for its size. It did so either here, in the same words
// in which a participant's gRPC refuses a request; or at the participant, whose own limit kept it from sending the
// reply. The words are those of gRPC for Go, of gRPC's core (Python, Ruby, C++), of Node and of .NET.
func replyTooLarge(st *status.Status) bool {
	return st.Code() == codes.ResourceExhausted && (strings.Contains(st.Message(), "larger than max") ||
		strings.Contains(st.Message(), "exceeds the maximum configured message size"))
}
