package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/anypb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// Domain is the domain of every google.rpc.ErrorInfo that the orchestrator makes.
const Domain = "treaty"

// The reasons in a google.rpc.ErrorInfo.
const (
	// ReasonInvalidRequest: INVALID_ARGUMENT, with a google.rpc.BadRequest that names the fields.
	ReasonInvalidRequest = "INVALID_REQUEST"

	// ReasonSagaNotFound: NOT_FOUND.
	ReasonSagaNotFound = "SAGA_NOT_FOUND"

	// ReasonDefinitionNotFound: NOT_FOUND. This orchestrator runs no sagas of that definition.
	ReasonDefinitionNotFound = "DEFINITION_NOT_FOUND"

	// ReasonSagaPurged: DATA_LOSS. The saga of the request id has ended and is no longer kept; how it ended isn't known here any more.
	ReasonSagaPurged = "SAGA_PURGED"

	// ReasonOtherRequest: ALREADY_EXISTS. The request id or saga id was used before with another request.
	ReasonOtherRequest = "OTHER_REQUEST"

	// ReasonInDoubt: UNAVAILABLE. The store didn't say whether it recorded what was asked; ask again with the same ids.
	ReasonInDoubt = "IN_DOUBT"

	// ReasonStopping: UNAVAILABLE. The orchestrator is stopping; sagas go on when it is back.
	ReasonStopping = "STOPPING"

	// ReasonStoreFull: UNAVAILABLE. The store has no space left.
	ReasonStoreFull = "STORE_FULL"

	// ReasonStoreReadOnly: UNAVAILABLE. The store can't be written.
	ReasonStoreReadOnly = "STORE_READ_ONLY"

	// ReasonStoreCorrupt: DATA_LOSS. What is stored of a saga can't be read.
	ReasonStoreCorrupt = "STORE_CORRUPT"

	// ReasonPastPivot: FAILED_PRECONDITION. The saga can't be undone any more.
	ReasonPastPivot = "PAST_PIVOT"

	// ReasonPivotUnderWay: FAILED_PRECONDITION. It isn't known yet whether the saga can be undone.
	ReasonPivotUnderWay = "PIVOT_UNDER_WAY"

	// ReasonSagaEnded: FAILED_PRECONDITION. The saga has succeeded.
	ReasonSagaEnded = "SAGA_ENDED"

	// ReasonNotSuspended: FAILED_PRECONDITION. The saga doesn't wait for an operator.
	ReasonNotSuspended = "NOT_SUSPENDED"

	// ReasonUnfit: FAILED_PRECONDITION. The decision doesn't fit why the saga is suspended.
	ReasonUnfit = "DECISION_UNFIT"

	// ReasonContractUnknown: the command's contract isn't linked into this orchestrator. FAILED_PRECONDITION for a decision;
	// UNIMPLEMENTED for a completion, which is worth another try with an orchestrator that has it.
	ReasonContractUnknown = "CONTRACT_UNKNOWN"

	// ReasonDeadline: DEADLINE_EXCEEDED. The caller's deadline passed; the saga goes on.
	ReasonDeadline = "DEADLINE_EXCEEDED"

	// ReasonCancelled: CANCELLED. The caller went away; the saga goes on.
	ReasonCancelled = "CANCELLED"

	// ReasonInternal: INTERNAL. The metadata's "error" is found in the orchestrator's log.
	ReasonInternal = "INTERNAL"

	// ReasonSagaCompensated: the saga's code returned an error, and the saga was undone. The code, the message and the
	// other details are those of that error.
	ReasonSagaCompensated = "SAGA_COMPENSATED"

	// ReasonSagaCancelled: CANCELLED. The saga was cancelled, and undone.
	ReasonSagaCancelled = "SAGA_CANCELLED"

	// ReasonSagaDeadline: DEADLINE_EXCEEDED. The saga's own deadline passed, and it was undone.
	ReasonSagaDeadline = "SAGA_DEADLINE"

	// ReasonSagaUndone: FAILED_PRECONDITION. The saga is a step of another one, which has undone it.
	ReasonSagaUndone = "SAGA_UNDONE"

	// ReasonStepNotFound: NOT_FOUND. The saga has no such step, or the step isn't being undone.
	ReasonStepNotFound = "STEP_NOT_FOUND"

	// ReasonStepOver: FAILED_PRECONDITION. The step ended otherwise, or nobody waits for it any more.
	ReasonStepOver = "STEP_OVER"

	// ReasonStepIsSaga: FAILED_PRECONDITION. The step is a saga, whose end alone completes it.
	ReasonStepIsSaga = "STEP_IS_SAGA"

	// ReasonNotAStep: INVALID_ARGUMENT. The call came as a step of a saga, but the definition has no kind of command.
	ReasonNotAStep = "NOT_A_STEP"

	// ReasonNotACommand: FAILED_PRECONDITION. The method undoes a saga for its parent, and the call doesn't come from one.
	ReasonNotACommand = "NOT_A_COMMAND"

	// ReasonEventTypeUnknown: INVALID_ARGUMENT. No contract that is linked into this orchestrator marks the message as an event.
	ReasonEventTypeUnknown = "EVENT_TYPE_UNKNOWN"

	// ReasonEventExists: ALREADY_EXISTS. An event of the same source and id was published before with other content.
	ReasonEventExists = "EVENT_EXISTS"

	// ReasonEventsPurged: OUT_OF_RANGE. Events behind the position are no longer kept.
	ReasonEventsPurged = "EVENTS_PURGED"

	// ReasonEventsAhead: OUT_OF_RANGE. No event has reached the position yet.
	ReasonEventsAhead = "EVENTS_AHEAD"

	// ReasonConsumerTaken: ABORTED. Another stream of the same consumer has begun.
	ReasonConsumerTaken = "CONSUMER_TAKEN"

	// ReasonConsumerNotFound: NOT_FOUND. No stream was ever opened for the consumer.
	ReasonConsumerNotFound = "CONSUMER_NOT_FOUND"

	// ReasonConsumerFilter: FAILED_PRECONDITION. The consumer was made for other events.
	ReasonConsumerFilter = "CONSUMER_FILTER"
)

// The keys of the metadata in an ErrorInfo.
const (
	// MetadataSaga holds the saga's name.
	MetadataSaga = "saga"

	// MetadataDefinition holds the saga definition.
	MetadataDefinition = "definition"

	// MetadataError holds the id under which the log tells more.
	MetadataError = "error"

	// MetadataStep holds the step's name.
	MetadataStep = "step"

	// MetadataConsumer holds the name of a consumer of events.
	MetadataConsumer = "consumer"

	// MetadataPosition holds, for EVENTS_PURGED, the position with which reading can go on; for EVENTS_AHEAD, that of the newest event.
	MetadataPosition = "position"
)

const (
	stopping       = "the orchestrator is stopping; sagas go on when it is back: ask again then, with the same request id or name"
	stoppingEvents = "the orchestrator is stopping; ask again when it is back"
)

// causes says what the errors of the engine and the store mean to a caller. The first that fits counts, so what the store says of a cause
// comes before engine.ErrInDoubt, which wraps it. The message of an error with advice ends with it; one without its own text says only the
// cause, since the rest is not the caller's.
var causes = []struct {
	is      error
	code    codes.Code
	reason  string
	message string
	events  string // the message for a call about events, where it is another
	own     bool   // the error's own text tells the caller more, and nothing that it must not know
}{
	{is: journal.ErrNotFound, code: codes.NotFound, reason: ReasonSagaNotFound, message: "there is no such saga"},
	{is: engine.ErrPurged, code: codes.DataLoss, reason: ReasonSagaPurged, message: "the request id was used before, by a saga that has ended and is no longer kept; for a new saga use a new request id"},
	{is: engine.ErrOtherRequest, code: codes.AlreadyExists, reason: ReasonOtherRequest, message: "the request id or saga id was used before with another request"},
	{is: engine.ErrNoDefinition, code: codes.NotFound, reason: ReasonDefinitionNotFound, own: true},
	{is: engine.ErrStopping, code: codes.Unavailable, reason: ReasonStopping, message: stopping, events: stoppingEvents},
	{is: journal.ErrClosed, code: codes.Unavailable, reason: ReasonStopping, message: stopping, events: stoppingEvents},
	{
		is: journal.ErrFull, code: codes.Unavailable, reason: ReasonStoreFull, message: "the orchestrator's store has no space left; ask again, with the same request id or name, once there is some",
		events: "the orchestrator's store has no space left; ask again once there is some",
	},
	{
		is: journal.ErrReadOnly, code: codes.Unavailable, reason: ReasonStoreReadOnly, message: "the orchestrator's store can't be written; ask again, with the same request id or name, once it can",
		events: "the orchestrator's store can't be written; ask again once it can",
	},
	{
		is: journal.ErrCorrupt, code: codes.DataLoss, reason: ReasonStoreCorrupt, message: "what is stored of this saga can't be read; the orchestrator's log says more",
		events: "what is stored of events can't be read; the orchestrator's log says more",
	},
	{is: machine.ErrJournal, code: codes.DataLoss, reason: ReasonStoreCorrupt, message: "what is stored of this saga can't be read by this version; the orchestrator's log says more"},
	{
		is: engine.ErrInDoubt, code: codes.Unavailable, reason: ReasonInDoubt, message: "the store didn't say whether it was recorded; ask again, with the same request id or name",
		events: "the store didn't say whether it was recorded; ask again, for events with the same sources and ids: none is published twice",
	},
	{is: machine.ErrPastPivot, code: codes.FailedPrecondition, reason: ReasonPastPivot, own: true},
	{is: machine.ErrPivotInFlight, code: codes.FailedPrecondition, reason: ReasonPivotUnderWay, own: true},
	{is: machine.ErrEnded, code: codes.FailedPrecondition, reason: ReasonSagaEnded, message: "the saga has succeeded, so it can't be undone"},
	{is: machine.ErrNotSuspended, code: codes.FailedPrecondition, reason: ReasonNotSuspended, own: true},
	{is: machine.ErrDecisionUnfit, code: codes.FailedPrecondition, reason: ReasonUnfit, own: true},
	{is: engine.ErrStepNotFound, code: codes.NotFound, reason: ReasonStepNotFound, own: true},
	{is: engine.ErrStepEnded, code: codes.FailedPrecondition, reason: ReasonStepOver, own: true},
}

// problem is an error as its caller sees it.
type problem struct {
	code       codes.Code
	reason     string
	message    string
	saga       string // id
	definition string
	id         string // under which the log tells more
	violations []*errdetails.BadRequest_FieldViolation
	metadata   map[string]string // more of it; nil for none
}

// Error returns the message.
func (p *problem) Error() string { return p.message }

// GRPCStatus is the status with its details.
func (p *problem) GRPCStatus() *status.Status {
	metadata := make(map[string]string, len(p.metadata)+1)
	maps.Copy(metadata, p.metadata)
	if p.saga != "" {
		metadata[MetadataSaga] = namePrefix + p.saga
	}
	if p.definition != "" {
		metadata[MetadataDefinition] = p.definition
	}
	if p.id != "" {
		metadata[MetadataError] = p.id
	}
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{Domain: Domain, Reason: p.reason, Metadata: metadata}}
	if len(p.violations) > 0 {
		details = append(details, &errdetails.BadRequest{FieldViolations: p.violations})
	}
	st := status.New(p.code, p.message)
	if detailed, err := st.WithDetails(details...); err == nil {
		return detailed
	}
	return st
}

// invalid says what is wrong with one field of a request; the text goes on where the field's name ends.
func invalid(field, format string, args ...any) *problem {
	text := fmt.Sprintf(format, args...)
	return &problem{
		code: codes.InvalidArgument, reason: ReasonInvalidRequest, message: field + " " + text,
		violations: []*errdetails.BadRequest_FieldViolation{{Field: field, Description: text}},
	}
}

// about says what an error is about.
type about struct {
	saga       string // id
	definition string
	step       string // name
	events     bool   // it is about events, not about a saga
}

// metadata is what an ErrorInfo holds beside what every problem has.
func (a about) metadata() map[string]string {
	if a.step == "" {
		return nil
	}
	return map[string]string{MetadataStep: a.step}
}

// explain makes a status of any error. One that nobody foresaw is logged under an id, and the caller gets the id alone.
func (s *Server) explain(ctx context.Context, method string, subject about, err error) error {
	p := new(problem)
	if errors.As(err, &p) {
		known := *p
		if known.saga == "" {
			known.saga = subject.saga
		}
		if known.metadata == nil {
			known.metadata = subject.metadata()
		}
		return known.GRPCStatus().Err()
	}
	if ended := ctx.Err(); ended != nil && !errors.Is(err, engine.ErrStopping) {
		return endedProblem(ended, subject).GRPCStatus().Err()
	}
	for _, cause := range causes {
		if !errors.Is(err, cause.is) {
			continue
		}
		p = &problem{code: cause.code, reason: cause.reason, message: cause.message, saga: subject.saga, definition: subject.definition, metadata: subject.metadata()}
		switch {
		case cause.reason == ReasonSagaNotFound && subject.saga != "":
			p.message = "there is no saga " + subject.name()
		case cause.own:
			p.message = err.Error()
		case subject.events && cause.events != "":
			p.message = cause.events
		}
		if cause.code == codes.DataLoss {
			p.id = s.logged(ctx, method, subject, err)
		}
		return p.GRPCStatus().Err()
	}
	return s.unforeseen(ctx, method, subject, err)
}

// unforeseen is the status of an error that only the log may tell.
func (s *Server) unforeseen(ctx context.Context, method string, subject about, err error) error {
	id := s.logged(ctx, method, subject, err)
	p := &problem{
		code: codes.Internal, reason: ReasonInternal, saga: subject.saga, definition: subject.definition, id: id,
		message: "the orchestrator failed; its log says more under error " + id,
	}
	return p.GRPCStatus().Err()
}

// logged writes an error to the log and returns the id that it has there.
func (s *Server) logged(ctx context.Context, method string, subject about, err error) string {
	var raw [8]byte
	_, _ = rand.Read(raw[:]) // never fails
	id := hex.EncodeToString(raw[:])
	s.logger.ErrorContext(ctx, "a call failed", "error_id", id, "method", method, "saga", subject.name(), "error", err)
	return id
}

func (a about) name() string {
	if a.saga == "" {
		return ""
	}
	return namePrefix + a.saga
}

// endedProblem tells a caller whose time is up, should it still listen.
func endedProblem(err error, subject about) *problem {
	p := &problem{code: codes.Canceled, reason: ReasonCancelled, message: "the call was cancelled", saga: subject.saga, definition: subject.definition}
	if errors.Is(err, context.DeadlineExceeded) {
		p.code, p.reason, p.message = codes.DeadlineExceeded, ReasonDeadline, "the call's deadline passed"
	}
	if subject.saga != "" {
		p.message += "; the saga goes on, and the same request id or its name leads to it again"
	}
	return p
}

// ended is the status of a saga that was undone: the error that it ended with, and why it was undone.
func ended(saga about, cause treatyv1.CompensationCause, failure *treatyv1.Failure) error {
	reason := ReasonSagaCompensated
	switch cause {
	case treatyv1.CompensationCause_COMPENSATION_CAUSE_CANCELLED:
		reason = ReasonSagaCancelled
	case treatyv1.CompensationCause_COMPENSATION_CAUSE_DEADLINE:
		reason = ReasonSagaDeadline
	case treatyv1.CompensationCause_COMPENSATION_CAUSE_PARENT:
		reason = ReasonSagaUndone
	}
	info, err := anypb.New(&errdetails.ErrorInfo{Domain: Domain, Reason: reason, Metadata: map[string]string{
		MetadataSaga: saga.name(), MetadataDefinition: saga.definition,
	}})
	details := failure.GetDetails()
	if err == nil {
		// First, so that who reads one ErrorInfo reads that of this call.
		details = append([]*anypb.Any{info}, details...)
	}
	code := failure.GetCode()
	if code == int32(codes.OK) {
		code = int32(codes.Unknown) // an error must not look like a success
	}
	return status.FromProto(&spb.Status{Code: code, Message: failure.GetMessage(), Details: details}).Err()
}
