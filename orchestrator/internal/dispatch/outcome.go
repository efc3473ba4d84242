package dispatch

import (
	"context"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
)

// failed returns the answer of a call that ended with a status.
func failed(outcome treatyv1.Outcome, st *status.Status) engine.Answer {
	failure, retryAfter := failureOf(st)
	if outcome == treatyv1.Outcome_OUTCOME_REFUSED {
		retryAfter = 0
	}
	return engine.Answer{
		Outcome: outcome, Evidence: evidenceOf(outcome), Failure: failure, RetryAfter: retryAfter,
	}
}

// outcomeOf returns the outcome of a call that ended with a status. A contract's own outcome for a code holds only if
// the participant sent the status. When a connection breaks during a command, gRPC itself makes an UNAVAILABLE, and
// the command may have been executed.
func outcomeOf(call *contract.CallConfig, st *status.Status, trailer metadata.MD) treatyv1.Outcome {
	if _, ok := call.Outcomes[st.Code()]; ok && madeByGRPC(st.Code()) && !sentByParticipant(trailer) {
		call = nil
	}
	outcome := contract.OutcomeOf(call, st.Code())
	if st.Code() == codes.ResourceExhausted && replyTooLarge(st) {
		// The participant may have executed the command, and only its reply was too large to send or receive.
		return treatyv1.Outcome_OUTCOME_UNKNOWN
	}
	return outcome
}

// madeByGRPC returns whether gRPC itself makes statuses with this code on the caller's side.
func madeByGRPC(code codes.Code) bool {
	switch code {
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.FailedPrecondition, codes.OutOfRange,
		codes.Aborted, codes.DataLoss:
		return false
	default:
		return true
	}
}

// sentByParticipant returns whether the trailer of a failed call shows that the participant sent the status. An
// answer that is only an error is one frame, which has the content type too. If the participant sent headers first,
// the trailer doesn't tell, and the result is false.
func sentByParticipant(trailer metadata.MD) bool {
	contentType := trailer.Get("content-type")
	return len(contentType) > 0 && strings.HasPrefix(contentType[0], "application/grpc")
}

// replyTooLarge returns whether gRPC may have refused a reply for its size. It did so either here, in the same words
// in which a participant's gRPC refuses a request; or at the participant, whose own limit kept it from sending the
// reply. The words are those of gRPC for Go, of gRPC's core (Python, Ruby, C++), of Node and of .NET.
func replyTooLarge(st *status.Status) bool {
	return strings.Contains(st.Message(), "larger than max") ||
		strings.Contains(st.Message(), "exceeds the maximum configured message size")
}

// health returns what a failed call says about the participant.
func (p *participant) health(ctx context.Context, code codes.Code) health {
	if ctx.Err() != nil {
		return cancelled
	}
	if code != codes.Unavailable && code != codes.DeadlineExceeded {
		return answered
	}
	switch {
	case p.conn.GetState() != connectivity.Ready:
		return disconnected
	case code == codes.Unavailable:
		return unavailable
	default:
		return timedOut
	}
}

// evidenceOf returns what an outcome proves.
func evidenceOf(outcome treatyv1.Outcome) engine.Evidence {
	switch outcome {
	case treatyv1.Outcome_OUTCOME_DONE, treatyv1.Outcome_OUTCOME_REFUSED:
		return engine.Settled
	case treatyv1.Outcome_OUTCOME_UNKNOWN:
		return engine.NoEvidence
	default:
		return engine.AttemptNotRun
	}
}
