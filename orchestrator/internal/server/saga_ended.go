package server

import (
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
)

// sagaEndedError is the error of a call that waited for a saga that was compensated. Its status is the error with which
// the saga's code ended, with an ErrorInfo that says why the saga was compensated.
type sagaEndedError struct {
	saga    subject
	cause   treatyv1.CompensationCause
	failure *treatyv1.Failure
}

// Error returns the message of the saga's error.
func (e *sagaEndedError) Error() string { return e.failure.GetMessage() }

// GRPCStatus returns the saga's error.
func (e *sagaEndedError) GRPCStatus() *status.Status {
	details := e.failure.GetDetails()
	info, err := anypb.New(&errdetails.ErrorInfo{
		Domain: wire.ErrorDomain, Reason: wire.Reason(e.reason()),
		Metadata: map[string]string{wire.ErrorSaga: e.saga.sagaName(), wire.ErrorDefinition: e.saga.definition},
	})
	if err == nil {
		// It comes first, so that a client that reads one ErrorInfo reads this one.
		details = append([]*anypb.Any{info}, details...)
	}
	code := e.failure.GetCode()
	if code == int32(codes.OK) {
		code = int32(codes.Unknown) // an error must not look like a success
	}
	return status.FromProto(&spb.Status{Code: code, Message: e.failure.GetMessage(), Details: details})
}

func (e *sagaEndedError) reason() treatyv1.ErrorReason {
	switch e.cause {
	case treatyv1.CompensationCause_COMPENSATION_CAUSE_CANCELLED:
		return treatyv1.ErrorReason_ERROR_REASON_SAGA_CANCELLED
	case treatyv1.CompensationCause_COMPENSATION_CAUSE_DEADLINE:
		return treatyv1.ErrorReason_ERROR_REASON_SAGA_DEADLINE
	case treatyv1.CompensationCause_COMPENSATION_CAUSE_PARENT:
		return treatyv1.ErrorReason_ERROR_REASON_COMPENSATED_BY_PARENT
	default:
		return treatyv1.ErrorReason_ERROR_REASON_SAGA_COMPENSATED
	}
}
