package contract

import (
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protoreflect"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Defaults for what a contract leaves out.
const (
	// DefaultTimeout is how long one attempt may take.
	DefaultTimeout = 10 * time.Second

	// DefaultInitialInterval is the wait after the first attempt.
	DefaultInitialInterval = 100 * time.Millisecond

	// DefaultMaxInterval is the longest wait between two attempts.
	DefaultMaxInterval = 30 * time.Second

	// DefaultGiveUpAfter is how long the orchestrator retries a compensatable command or a query. It retries other
	// commands, and compensations, without a limit.
	DefaultGiveUpAfter = 10 * time.Minute
)

// Limits of what a contract may say.
const (
	maxTimeout        = time.Hour
	maxRetryInterval  = 24 * time.Hour
	maxGiveUpAfter    = 365 * 24 * time.Hour
	maxDeadline       = 10 * 365 * 24 * time.Hour
	minRetention      = time.Minute
	maxRetention      = 10 * 365 * 24 * time.Hour
	maxCompleteWithin = 10 * 365 * 24 * time.Hour
	maxLabels         = 16
)

// CallConfig says how to call a method of a participant. Commands and compensations have one. It is immutable.
type CallConfig struct {
	// Method is the method's name without a leading slash, e.g. "acme.customer.v1.CustomerService/ChangeAddress".
	Method string

	// Input and Output are the method's message types.
	Input, Output protoreflect.MessageDescriptor

	// Timeout is how long one attempt may take. It is always positive.
	Timeout time.Duration

	// Retry says when to retry.
	Retry Retry

	// CompleteWithin is how long a participant that accepted the command may take to complete it. 0 means no limit.
	CompleteWithin time.Duration

	// OfSaga says that the method starts or compensates a saga. The orchestrator that runs the saga may accept the
	// command and complete it later, whether or not there is a limit for that.
	OfSaga bool

	// SafeRefusals says that the text of a refusal may be shown to everybody who may read the saga.
	SafeRefusals bool

	// Outcomes holds the gRPC codes whose meaning differs from the default; see [OutcomeOf]. It is nil when there are
	// none.
	Outcomes map[codes.Code]treatyv1.Outcome
}

// Retry says when to retry a call.
type Retry struct {
	// InitialInterval is the wait after the first attempt. The wait doubles after each attempt, up to MaxInterval.
	InitialInterval, MaxInterval time.Duration

	// GiveUpAfter is how long the orchestrator retries while the participant is reachable. 0 means no limit.
	GiveUpAfter time.Duration
}

// Command is a method that sagas may call as a step. It is immutable.
type Command struct {
	CallConfig

	// Kind decides how the command is compensated and what a saga may do after it.
	Kind treatyv1.CommandKind

	// Compensation compensates the command. It is nil unless Kind is COMMAND_KIND_COMPENSATABLE.
	Compensation *Compensation

	// Rejections are the full names of the messages that the details of a refusal may carry.
	Rejections []protoreflect.FullName

	// Broadcast reports whether the command goes to every participant that takes part in it.
	Broadcast bool
}

// Compensation is a method that compensates a command. It is immutable.
type Compensation struct {
	CallConfig

	// ActionField and ReplyField are the numbers of the request's fields that hold the action's request and the
	// action's reply. 0 means that there is no such field.
	ActionField, ReplyField protoreflect.FieldNumber
}

// Plan returns the compensation as it is stored in a journal. The plan of a nil compensation is nil.
func (c *Compensation) Plan() *treatyv1.CompensationPlan {
	if c == nil {
		return nil
	}
	return &treatyv1.CompensationPlan{
		Method: c.Method, ActionField: int32(c.ActionField), ReplyField: int32(c.ReplyField),
	}
}

// SagaDefinition is a method that starts a saga. It is immutable.
type SagaDefinition struct {
	// Definition is the method's name without a leading slash, e.g. "acme.card.v1.CardSagas/IssueCard".
	Definition string

	// Input and Output are the method's message types.
	Input, Output protoreflect.MessageDescriptor

	// Deadline is how long a saga may take before it is cancelled. 0 means no limit.
	Deadline time.Duration

	// Retention is how long a saga is kept after its end. 0 means the orchestrator's setting.
	Retention time.Duration

	// Kind is the kind of the definition as a command, if other sagas can use it as a step. Otherwise it is
	// unspecified.
	Kind treatyv1.CommandKind

	// Compensation is the method with which a parent compensates the saga. The orchestrator serves it. It is nil unless
	// Kind is COMMAND_KIND_COMPENSATABLE.
	Compensation *Compensation

	// RequestID is the field that makes starting a saga idempotent. It is nil when there is none.
	RequestID protoreflect.FieldDescriptor

	// Labels are the fields by whose values sagas can be searched.
	Labels []protoreflect.FieldDescriptor
}
