// Package contract reads the treaty.v1 annotations from protobuf descriptors. It is the one source of truth about commands,
// compensations, sagas and events for the generator, the orchestrator and the docs. It never calls anybody and holds no state.
//
// Check tells what is wrong with a contract, each violation with its rule and its position in the .proto file; CommandOf and
// SagaOf read one method, EventOf one message; a Catalog holds everything that a program links.
package contract

import (
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protoreflect"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Defaults of a contract that says nothing else.
const (
	// DefaultTimeout is how long one attempt may take.
	DefaultTimeout = 10 * time.Second

	// DefaultInitialInterval is the wait after the first attempt.
	DefaultInitialInterval = 100 * time.Millisecond

	// DefaultMaxInterval is the longest wait between two attempts.
	DefaultMaxInterval = 30 * time.Second

	// DefaultGiveUpAfter is how long a compensatable command or a query is tried. The others are tried without end.
	DefaultGiveUpAfter = 10 * time.Minute
)

// What a contract may say at most.
const (
	// maxTimeout is the longest time that one attempt may be given.
	maxTimeout = time.Hour

	// maxRetryInterval is the longest wait between two attempts.
	maxRetryInterval = 24 * time.Hour

	// maxGiveUpAfter is the longest time that a command may be tried, unless it is tried without end.
	maxGiveUpAfter = 365 * 24 * time.Hour

	// maxDeadline is the longest time that a saga may be given, unless it has no deadline.
	maxDeadline = 10 * 365 * 24 * time.Hour

	// minRetention is the shortest time that a contract may have a saga kept after its end.
	minRetention = time.Minute

	// maxRetention is the longest time that a contract may have a saga kept after its end, unless it is kept for ever.
	maxRetention = 10 * 365 * 24 * time.Hour

	// maxCompleteWithin is the longest time that a participant may be given to complete a command that it accepted.
	maxCompleteWithin = 10 * 365 * 24 * time.Hour

	// maxLabels is how many fields of a saga's request may be labels.
	maxLabels = 16
)

// CallConfig is how a method of a participant is called: what commands and compensations have in common. It is immutable.
type CallConfig struct {
	// Method is the method's name, e.g. "acme.customer.v1.CustomerService/ChangeAddress", without a leading slash.
	Method string

	// Input and Output are the method's message types.
	Input, Output protoreflect.MessageDescriptor

	// Timeout is how long one attempt may take; always positive.
	Timeout time.Duration

	// Retry says how attempts follow each other.
	Retry Retry

	// CompleteWithin is how long a participant that accepted the command may take to complete it; 0 means without end.
	CompleteWithin time.Duration

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
	CallConfig

	// Kind says what may follow the command and what undoes it.
	Kind treatyv1.CommandKind

	// Compensation undoes the command; nil unless Kind is compensatable.
	Compensation *Compensation

	// Rejections are the full names of the messages that a refusal may carry.
	Rejections []protoreflect.FullName

	// Broadcast says that the command goes to every participant that serves its service.
	Broadcast bool
}

// Compensation is a method that undoes a command. It is immutable.
type Compensation struct {
	CallConfig

	// ActionField and ReplyField are the numbers of the request's fields that take the action's request and its reply; 0
	// where there is none.
	ActionField, ReplyField protoreflect.FieldNumber
}

// SagaDefinition is a method that starts a saga. It is immutable.
type SagaDefinition struct {
	// Definition is the method's name, e.g. "acme.card.v1.CardSagas/IssueCard", without a leading slash.
	Definition string

	// Input and Output are the method's message types.
	Input, Output protoreflect.MessageDescriptor

	// Deadline is how long a saga may take; 0 means without end.
	Deadline time.Duration

	// Retention is how long a saga is kept after its end; 0 means as the orchestrator is told.
	Retention time.Duration

	// Kind is the kind that the definition has as a command, when another saga can use it as a step; else unspecified.
	Kind treatyv1.CommandKind

	// Compensation is the method by which a parent undoes the saga; nil unless Kind is compensatable. The orchestrator serves it.
	Compensation *Compensation

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
