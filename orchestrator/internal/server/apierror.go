package server

import (
	"fmt"
	"maps"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
)

// apiError is an error as its caller receives it.
type apiError struct {
	code       codes.Code
	reason     treatyv1.ErrorReason
	message    string
	subject    subject
	logID      string // the id under which the log has the cause
	violations []*errdetails.BadRequest_FieldViolation
	metadata   map[string]string // in addition to that of the subject
	retryAfter time.Duration     // 0: the error doesn't say when to repeat the call
}

// Error returns the message.
func (e *apiError) Error() string { return e.message }

// GRPCStatus returns the status with its details.
func (e *apiError) GRPCStatus() *status.Status {
	metadata := make(map[string]string, len(e.metadata)+4)
	maps.Copy(metadata, e.metadata)
	set := func(key, value string) {
		if value != "" {
			metadata[key] = value
		}
	}
	set(wire.ErrorSaga, e.subject.sagaName())
	set(wire.ErrorStep, e.subject.step)
	set(wire.ErrorDefinition, e.subject.definition)
	set(wire.ErrorID, e.logID)
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{
		Domain: wire.ErrorDomain, Reason: wire.Reason(e.reason), Metadata: metadata,
	}}
	if len(e.violations) > 0 {
		details = append(details, &errdetails.BadRequest{FieldViolations: e.violations})
	}
	if e.retryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(e.retryAfter)})
	}
	plain := status.New(e.code, e.message)
	if detailed, err := plain.WithDetails(details...); err == nil {
		return detailed
	}
	return plain
}

// statusError is a status that its caller receives as it is.
type statusError struct{ status error }

// Error returns the status's text.
func (e *statusError) Error() string { return e.status.Error() }

// invalid returns the error for an invalid field of a request. The text continues a sentence that begins with the
// field.
func invalid(field, format string, args ...any) *apiError {
	text := fmt.Sprintf(format, args...)
	return &apiError{
		code: codes.InvalidArgument, reason: treatyv1.ErrorReason_ERROR_REASON_INVALID_REQUEST,
		message:    field + " " + text,
		violations: []*errdetails.BadRequest_FieldViolation{{Field: field, Description: text}},
	}
}
