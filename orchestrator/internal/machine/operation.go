package machine

import (
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Code is the code of a saga definition. The machine calls it on a coroutine. It performs operations through the
// thread, and returns the serialized reply, or the failure that the saga ends with.
type Code func(thread *Thread, request []byte) (reply []byte, failure *treatyv1.Failure)

// Call is an operation of saga code: send a command.
type Call struct {
	// Method is the command's method, e.g. "acme.customer.v1.CustomerService/ChangeAddress".
	Method string

	// Request is the serialized request.
	Request []byte

	// RequestType and ReplyType are the full names of the messages that the code sends and expects. An empty one isn't
	// checked.
	RequestType, ReplyType protoreflect.FullName

	// NilRequest means that the code sends nil instead of a message.
	NilRequest bool

	// Participant is the name of the participant for a step of a broadcast. It is empty for other steps.
	Participant string

	// Differs reports whether a journaled request whose bytes differ is another request, because the serialized form
	// of a message may change between versions. If so, it returns the path of the first field that differs, or "" if
	// it can't tell. If Differs is nil, the bytes decide.
	Differs func(journaled []byte) (path string, differs bool)
}

// CallResult is the result of a Call.
type CallResult struct {
	// Reply is the serialized reply. It is nil if the step failed.
	Reply []byte

	// Failure is the participant's status. It is nil if the step is done.
	Failure *treatyv1.Failure

	// Unknown reports whether a step that failed may have been executed.
	Unknown bool
}

// Wait is an operation of saga code: wait for a time or an event.
type Wait struct {
	// Until is when the wait ends if no event comes. Zero means never.
	Until time.Time

	// Events are the events that end the wait earlier.
	Events []*treatyv1.EventKey
}

// WaitResult is the result of a Wait.
type WaitResult struct {
	// Event is the event that ended the wait. It is nil if the moment came.
	Event *treatyv1.EventArrived
}

// Branches is an operation of saga code: run branches in parallel, or run one part that can fail on its own.
type Branches struct {
	// Count is the number of branches.
	Count int

	// AtOnce is how many branches run at a time. 0 means all.
	AtOnce int

	// Body is the code of the branch with the given index, counted from 0. When it returns a failure, the other
	// branches stop before their next command.
	Body func(branch int, thread *Thread) *treatyv1.Failure

	// Compensate makes the branches a scope: if one fails, their steps are compensated, and the saga continues.
	Compensate bool

	// Within is how long the branches may take. 0 means no limit.
	Within time.Duration
}

// BranchesResult is the result of Branches.
type BranchesResult struct {
	// Failed is the branch that failed first, counted from 0. It is -1 if none did.
	Failed int

	// Expired reports whether the deadline passed.
	Expired bool
}

// Broadcast is an operation of saga code: send a command to every participant that takes part.
type Broadcast struct {
	// Method is the command's method.
	Method string
}
