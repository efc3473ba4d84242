package saga

import (
	"errors"
	"fmt"
	"strings"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Saga code sees these texts, and those of the other errors of this package, in every replay. It may put them into a
// command's request, so a changed text would break the replay of open sagas. TestErrorTextsDoNotChange pins them.
var (
	// ErrDeadline is returned by [Try] when the scope's deadline passed. Its code is DEADLINE_EXCEEDED.
	ErrDeadline = status.Error(codes.DeadlineExceeded, "the scope's deadline passed")

	// ErrTimeout is returned by [Await] when no event arrived in time. Its code is DEADLINE_EXCEEDED.
	ErrTimeout = status.Error(codes.DeadlineExceeded, "the event didn't come in time")
)

// Error is the error of a command that wasn't done. status.FromError and status.Code read the participant's status from
// it. It is immutable.
type Error struct {
	// Method is the command's method, e.g. "acme.customer.v1.CustomerService/ChangeAddress".
	Method string

	// Unknown reports whether the command may have been executed: the orchestrator gave up before it learned the
	// outcome. The step will be compensated, whatever the code does next. If Unknown is false, the participant refused
	// the command and did not execute it.
	Unknown bool

	failure *treatyv1.Failure
}

// Error returns the method, the outcome, the code and the participant's message.
func (e *Error) Error() string {
	outcome := "refused"
	if e.Unknown {
		outcome = "unknown"
	}
	code := codes.Code(uint32(e.failure.GetCode()))
	return fmt.Sprintf("%s %s: %s: %s", e.Method, outcome, code, e.failure.GetMessage())
}

// GRPCStatus returns the participant's status with its details.
func (e *Error) GRPCStatus() *status.Status {
	return status.FromProto(&spb.Status{
		Code: e.failure.GetCode(), Message: e.failure.GetMessage(), Details: e.failure.GetDetails(),
	})
}

// Rejection returns the typed rejection of type T in err, which may be wrapped. It returns false when err is not the
// error of a command, or carries no rejection of that type.
//
//	if closed, ok := saga.Rejection[*customerv1.CustomerClosed](err); ok { ... }
func Rejection[T proto.Message](err error) (T, bool) {
	var none T
	var stepError *Error
	if !errors.As(err, &stepError) {
		return none, false
	}
	wanted := none.ProtoReflect().Type()
	for _, detail := range stepError.failure.GetDetails() {
		if detail.MessageName() != wanted.Descriptor().FullName() {
			continue
		}
		rejection := wanted.New().Interface()
		if detail.UnmarshalTo(rejection) == nil {
			return rejection.(T), true //nolint:forcetypeassert // made from T's own type
		}
	}
	return none, false
}

// failureOf returns the failure that a saga ends with: the gRPC status in the error, with its details, or
// FAILED_PRECONDITION for an error without one. The saga was refused, and the same call would be refused again: ABORTED
// and UNAVAILABLE would tell its caller to try again, and UNKNOWN that nobody knows what became of it.
func failureOf(err error) *treatyv1.Failure {
	st, ok := status.FromError(err)
	if !ok || st.Code() == codes.OK {
		return &treatyv1.Failure{Code: int32(codes.FailedPrecondition), Message: validUTF8(err.Error())}
	}
	return &treatyv1.Failure{Code: int32(st.Code()), Message: validUTF8(st.Message()), Details: st.Proto().GetDetails()}
}

// validUTF8 replaces invalid UTF-8, which protobuf strings can't hold.
func validUTF8(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }
