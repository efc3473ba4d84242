package saga

import (
	"errors"
	"fmt"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

var (
	// ErrDeadline is what Try returns when the scope's time was up. Its code is DEADLINE_EXCEEDED.
	ErrDeadline = status.Error(codes.DeadlineExceeded, "the scope's deadline passed")

	// ErrTimeout is what Await returns when no event came in time. Its code is DEADLINE_EXCEEDED.
	ErrTimeout = status.Error(codes.DeadlineExceeded, "the event didn't come in time")
)

// Error is how a step ended that wasn't done. It is immutable. status.FromError and status.Code read it.
type Error struct {
	// Method is the command's method, e.g. "acme.customer.v1.CustomerService/ChangeAddress".
	Method string

	// Unknown says that the orchestrator gave up and that the step may have been executed. It will be undone, whatever the
	// code does next. False: the participant refused it, and it certainly wasn't executed.
	Unknown bool

	failure *treatyv1.Failure
}

// Error says which command ended how.
func (e *Error) Error() string {
	how := "refused"
	if e.Unknown {
		how = "unknown"
	}
	return fmt.Sprintf("%s %s: %s: %s", e.Method, how, codes.Code(uint32(e.failure.GetCode())), e.failure.GetMessage())
}

// GRPCStatus is the participant's status with its details.
func (e *Error) GRPCStatus() *status.Status {
	return status.FromProto(&spb.Status{Code: e.failure.GetCode(), Message: e.failure.GetMessage(), Details: e.failure.GetDetails()})
}

// Rejection returns the typed rejection of the wanted type that err carries, if it does.
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
			return rejection.(T), true //nolint:forcetypeassert // it was made from T's own type
		}
	}
	return none, false
}
