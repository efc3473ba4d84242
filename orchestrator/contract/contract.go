// Package contract reads the treaty.v1 annotations from protobuf descriptors. It is the one source of truth about commands,
// compensations and sagas for the generator, the orchestrator and the docs. It never calls anybody and holds no state.
package contract

import (
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protoreflect"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Defaults of a contract that says nothing else.
const (
	DefaultTimeout         = 10 * time.Second
	DefaultInitialInterval = 100 * time.Millisecond
	DefaultMaxInterval     = 30 * time.Second
	DefaultGiveUpAfter     = 10 * time.Minute
)

// Call is how a method of a participant is called: what commands and compensations have in common. It is immutable.
type Call struct {
	// Method is the method's name, e.g. "acme.customer.v1.CustomerService/ChangeAddress", without a leading slash.
	Method string

	// Input and Output are the method's message types.
	Input, Output protoreflect.MessageDescriptor

	// Timeout is how long one attempt may take; always positive.
	Timeout time.Duration

	// Retry says how attempts follow each other.
	Retry Retry

	// Outcomes holds the codes that mean something else here than by default; nil when there are none.
	Outcomes map[codes.Code]treatyv1.Outcome
}

// Retry says how attempts follow each other.
type Retry struct {
	// InitialInterval is the wait after the first attempt, MaxInterval the longest one; waits double in between.
	InitialInterval, MaxInterval time.Duration

	// GiveUpAfter is how long the orchestrator goes on trying while the participant is up; 0 means without end.
	GiveUpAfter time.Duration
}

// Command is a method that sagas may ask of a participant. It is immutable.
type Command struct {
	Call

	// Kind says what may follow the command and what undoes it.
	Kind treatyv1.CommandKind

	// Compensation undoes the command; nil unless Kind is compensatable.
	Compensation *Compensation

	// Rejections are the full names of the messages that a refusal may carry.
	Rejections []protoreflect.FullName
}

// Compensation is a method that undoes a command. It is immutable.
type Compensation struct {
	Call

	// ActionField and ReplyField are the numbers of the request's fields that take the action's request and its reply; 0
	// where there is none.
	ActionField, ReplyField protoreflect.FieldNumber
}

// Saga is a method that starts a saga. It is immutable.
type Saga struct {
	// Definition is the method's name, e.g. "acme.card.v1.CardSagas/IssueCard", without a leading slash.
	Definition string

	// Input and Output are the method's message types.
	Input, Output protoreflect.MessageDescriptor

	// Deadline is how long a saga may take; 0 means without end.
	Deadline time.Duration

	// RequestID is the field that makes a start idempotent; nil when there is none.
	RequestID protoreflect.FieldDescriptor

	// Labels are the fields by whose values sagas can be searched.
	Labels []protoreflect.FieldDescriptor
}

// Plan returns what the journal stores of the compensation.
func (c *Compensation) Plan() *treatyv1.CompensationPlan {
	if c == nil {
		return nil
	}
	return &treatyv1.CompensationPlan{Method: c.Method, ActionField: int32(c.ActionField), ReplyField: int32(c.ReplyField)}
}
