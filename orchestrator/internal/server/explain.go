package server

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/incoming"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// cause says what an error of the engine, the machine or the store means to a caller.
type cause struct {
	is      error
	code    codes.Code
	reason  treatyv1.ErrorReason
	message string // empty: the error's own text, which has nothing that the caller must not know
	advice  string // what to do, after the error's own text
	events  string // the message of a call about events, if it differs
}

const (
	stopping = "the orchestrator is stopping; sagas continue when it runs again: repeat the call then, with " +
		"the same request id or name"
	stoppingEvents = "the orchestrator is stopping; repeat the call when it runs again"

	drivenElsewhere = "another orchestrator of the same store drives the saga: repeat the call there, or here once " +
		"this one does, with the same request id or name"
	drivesNone = "this orchestrator drives no saga of the store now: repeat the call at another one, or later"
)

// causes is searched in order. What the store says comes before engine.ErrInDoubt, which wraps it.
var causes = []cause{
	{
		is: journal.ErrNotFound, code: codes.NotFound, reason: treatyv1.ErrorReason_ERROR_REASON_SAGA_NOT_FOUND,
		message: "there is no such saga",
	},
	{
		is: engine.ErrPurged, code: codes.DataLoss, reason: treatyv1.ErrorReason_ERROR_REASON_SAGA_PURGED,
		message: "the request id was used before, by a saga that ended and was purged; " +
			"use a new request id for a new saga",
	},
	{
		is: engine.ErrOtherRequest, code: codes.AlreadyExists, reason: treatyv1.ErrorReason_ERROR_REASON_OTHER_REQUEST,
		message: "the request id or saga id was used before with another request",
	},
	{
		is: engine.ErrNoDefinition, code: codes.NotFound,
		reason: treatyv1.ErrorReason_ERROR_REASON_DEFINITION_NOT_FOUND,
	},
	{
		is: engine.ErrReplaced, code: codes.Unavailable, reason: treatyv1.ErrorReason_ERROR_REASON_STORE_REPLACED,
		advice: "this orchestrator drives no saga until an operator has decided which of the two stores is right: " +
			"call the other orchestrator",
	},
	{
		is: engine.ErrEpochAhead, code: codes.Unavailable, reason: treatyv1.ErrorReason_ERROR_REASON_EPOCH_AHEAD,
		advice: "this orchestrator drives no saga until an operator has corrected the clock, or has restored the " +
			"store with --epoch-from-clock",
	},
	{
		is: engine.ErrRestoring, code: codes.Unavailable, reason: treatyv1.ErrorReason_ERROR_REASON_RESTORING,
		message: "the store was restored from a backup, and its participants haven't said yet what they know; " +
			"repeat the call, with the same request id or name, once they have",
		events: "the store was restored from a backup, and its participants haven't said yet what they know; " +
			"repeat the call once they have",
	},
	{
		is: engine.ErrLost, code: codes.Unavailable, reason: treatyv1.ErrorReason_ERROR_REASON_SAGA_LOST,
		advice: "an operator has to start it again with the same request id, or to undo its effects and remove it " +
			"from the lost sagas; repeat the call then",
	},
	{
		is: engine.ErrNotAsked, code: codes.Unavailable,
		reason: treatyv1.ErrorReason_ERROR_REASON_PARTICIPANT_UNAVAILABLE,
		advice: "nothing was recorded: repeat the call when the participant answers",
	},
	{
		is: machine.ErrCatchingUp, code: codes.Unavailable,
		reason: treatyv1.ErrorReason_ERROR_REASON_CATCHING_UP,
		advice: "repeat the call once it has; if the saga is suspended, resume it first",
	},
	{
		is: engine.ErrOverloaded, code: codes.ResourceExhausted,
		reason: treatyv1.ErrorReason_ERROR_REASON_OVERLOADED,
		advice: "repeat the call later, with the same request id",
	},
	{
		is: engine.ErrStopping, code: codes.Unavailable, reason: treatyv1.ErrorReason_ERROR_REASON_STOPPING,
		message: stopping, events: stoppingEvents,
	},
	{
		is: journal.ErrElsewhere, code: codes.Unavailable,
		reason: treatyv1.ErrorReason_ERROR_REASON_DRIVEN_ELSEWHERE, message: drivenElsewhere,
	},
	{
		is: journal.ErrFenced, code: codes.Unavailable,
		reason: treatyv1.ErrorReason_ERROR_REASON_DRIVEN_ELSEWHERE, message: drivenElsewhere, events: drivesNone,
	},
	{
		is: ErrNoShard, code: codes.Unavailable,
		reason: treatyv1.ErrorReason_ERROR_REASON_DRIVEN_ELSEWHERE, message: drivesNone, events: drivesNone,
	},
	{
		is: journal.ErrClosed, code: codes.Unavailable, reason: treatyv1.ErrorReason_ERROR_REASON_STOPPING,
		message: stopping, events: stoppingEvents,
	},
	{
		is: journal.ErrFull, code: codes.Unavailable, reason: treatyv1.ErrorReason_ERROR_REASON_STORE_FULL,
		message: "the orchestrator's store has no space left, so nothing was recorded; " +
			"repeat the call, with the same request id or name, once it has",
		events: "the orchestrator's store has no space left; repeat the call once it has",
	},
	{
		is: journal.ErrReadOnly, code: codes.Unavailable, reason: treatyv1.ErrorReason_ERROR_REASON_STORE_READ_ONLY,
		message: "the orchestrator's store can't be written, so nothing was recorded; " +
			"repeat the call, with the same request id or name, once it can",
		events: "the orchestrator's store can't be written; repeat the call once it can",
	},
	{
		is: journal.ErrCorrupt, code: codes.DataLoss, reason: treatyv1.ErrorReason_ERROR_REASON_STORE_CORRUPT,
		message: "the stored saga can't be read; the orchestrator's log has the cause",
		events:  "the stored events can't be read; the orchestrator's log has the cause",
	},
	{
		is: journal.ErrKey, code: codes.FailedPrecondition, reason: treatyv1.ErrorReason_ERROR_REASON_KEY_MISSING,
		advice: "then repeat the call",
	},
	{
		is: machine.ErrJournal, code: codes.DataLoss, reason: treatyv1.ErrorReason_ERROR_REASON_STORE_CORRUPT,
		message: "this version can't read the stored saga; the orchestrator's log has the cause",
	},
	{
		is: engine.ErrInDoubt, code: codes.Unavailable, reason: treatyv1.ErrorReason_ERROR_REASON_IN_DOUBT,
		message: "the store didn't say whether it was recorded; repeat the call, with the same request id or name",
		events: "the store didn't say whether it was recorded; repeat the call with the same sources and ids: " +
			"no event is published twice",
	},
	{
		is: machine.ErrChanged, code: codes.Aborted, reason: treatyv1.ErrorReason_ERROR_REASON_SAGA_CHANGED,
		advice: "nothing was recorded by this call; if it was sent before, that may have been the change: get the " +
			"saga, and decide about it as it is",
	},
	{
		is: machine.ErrPastPivot, code: codes.FailedPrecondition,
		reason: treatyv1.ErrorReason_ERROR_REASON_PAST_PIVOT,
	},
	{
		is: machine.ErrPivotInFlight, code: codes.FailedPrecondition,
		reason: treatyv1.ErrorReason_ERROR_REASON_PIVOT_IN_FLIGHT,
	},
	{
		is: machine.ErrEnded, code: codes.FailedPrecondition, reason: treatyv1.ErrorReason_ERROR_REASON_SAGA_ENDED,
		message: "the saga has succeeded, so it can't be cancelled",
	},
	{
		is: machine.ErrNotSuspended, code: codes.FailedPrecondition,
		reason: treatyv1.ErrorReason_ERROR_REASON_NOT_SUSPENDED,
	},
	{
		is: machine.ErrDecisionUnfit, code: codes.FailedPrecondition,
		reason: treatyv1.ErrorReason_ERROR_REASON_DECISION_UNFIT,
	},
	{
		is: engine.ErrNotAccepted, code: codes.FailedPrecondition,
		reason: treatyv1.ErrorReason_ERROR_REASON_NOT_ACCEPTED,
		advice: "wait until it has accepted or executed it, or complete the command with force if you know that it " +
			"never will",
	},
	{is: engine.ErrKept, code: codes.FailedPrecondition, reason: treatyv1.ErrorReason_ERROR_REASON_SAGA_KEPT},
	{is: engine.ErrStepNotFound, code: codes.NotFound, reason: treatyv1.ErrorReason_ERROR_REASON_STEP_NOT_FOUND},
	{
		is: engine.ErrStepEnded, code: codes.FailedPrecondition,
		reason: treatyv1.ErrorReason_ERROR_REASON_STEP_ENDED,
	},
}

// explain turns the error of a call into the status that its caller receives. It is the only place that does. An error
// that isn't among the causes is logged under an id, and the caller receives only the id.
func (s *Server) explain(ctx context.Context, method string, request any, err error) error {
	if ended, is := errors.AsType[*sagaEndedError](err); is {
		return ended.GRPCStatus().Err()
	}
	if made, is := errors.AsType[*statusError](err); is {
		return made.status
	}
	about := s.subjectOf(method, request, err)
	if known, is := errors.AsType[*apiError](err); is {
		complete := *known
		complete.subject = complete.subject.orElse(about)
		return complete.GRPCStatus().Err()
	}
	if made, is := status.FromError(err); is && incoming.IsParticipantService(method) {
		return made.Err()
	}
	over := ctx.Err()
	if errors.Is(err, errCallerGone) {
		over = cmp.Or(over, context.Canceled)
	}
	if over != nil && !errors.Is(err, engine.ErrStopping) {
		return callOver(over, about).GRPCStatus().Err()
	}
	for _, cause := range causes {
		if errors.Is(err, cause.is) {
			return s.caused(ctx, method, about, cause, err).GRPCStatus().Err()
		}
	}
	return s.unforeseen(ctx, method, about, err)
}

func (s *Server) caused(ctx context.Context, method string, about subject, cause cause, err error) *apiError {
	e := &apiError{code: cause.code, reason: cause.reason, message: cause.message, subject: about}
	switch {
	case cause.reason == treatyv1.ErrorReason_ERROR_REASON_SAGA_NOT_FOUND && about.saga != "":
		e.message = "there is no saga " + about.sagaName()
	case aboutEvents(method) && cause.events != "":
		e.message = cause.events
	case cause.message == "":
		e.message = err.Error()
		if cause.advice != "" {
			e.message += "; " + cause.advice
		}
	}
	if overloaded, is := errors.AsType[*engine.OverloadedError](err); is {
		e.retryAfter = overloaded.RetryAfter
	}
	if cause.code == codes.DataLoss {
		e.logID = s.logFailure(ctx, method, about, err)
	}
	return e
}

// unforeseen returns the status of an error that only the log may show.
func (s *Server) unforeseen(ctx context.Context, method string, about subject, err error) error {
	id := s.logFailure(ctx, method, about, err)
	e := &apiError{
		code: codes.Internal, reason: treatyv1.ErrorReason_ERROR_REASON_INTERNAL, subject: about, logID: id,
		message: "the orchestrator failed; its log has the cause under error " + id,
	}
	return e.GRPCStatus().Err()
}

// logFailure logs an error and returns its id in the log.
func (s *Server) logFailure(ctx context.Context, method string, about subject, err error) string {
	var raw [8]byte
	_, _ = rand.Read(raw[:]) // never fails
	id := hex.EncodeToString(raw[:])
	s.logger.ErrorContext(
		ctx, "a call failed", "error_id", id, "method", method, "saga", about.sagaName(), "error", err,
	)
	return id
}

// callOver returns the error of a call whose deadline passed or that was cancelled, in case the caller still receives
// it.
func callOver(over error, about subject) *apiError {
	e := &apiError{
		code: codes.Canceled, reason: treatyv1.ErrorReason_ERROR_REASON_CANCELLED, message: "the call was cancelled",
		subject: about,
	}
	if errors.Is(over, context.DeadlineExceeded) {
		e.code, e.reason = codes.DeadlineExceeded, treatyv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED
		e.message = "the call's deadline passed"
	}
	if about.saga != "" {
		e.message += "; the saga continues, and the same request id or its name finds it again"
	}
	return e
}
