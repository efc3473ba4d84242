package conform

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
)

const (
	// DefaultTimeout is how long one attempt may take unless Suite.Timeout is set.
	DefaultTimeout = 5 * time.Second

	// DefaultPatience is how long a command is repeated unless Suite.Patience is set.
	DefaultPatience = 30 * time.Second
)

// Suite says which participant is checked, and how.
type Suite struct {
	// Conn is a connection to the participant, without retries.
	Conn grpc.ClientConnInterface

	// Restart ends the participant's process, starts it again on the same database and returns a connection to it. If
	// it is nil, what needs a restart is skipped.
	Restart func(ctx context.Context) (grpc.ClientConnInterface, error)

	// Timeout is how long one attempt may take.
	Timeout time.Duration

	// Patience is how long a command is repeated until it has an answer, and how long an accepted command may take
	// until it is completed.
	Patience time.Duration
}

// Case is a command with what is needed to check it.
type Case struct {
	// Method is the command's method. Its contract is in its options.
	Method protoreflect.MethodDescriptor

	// Request makes a request that succeeds. Each call gets another unique text, for fields that must differ.
	Request func(unique string) (proto.Message, error)

	// Refused makes a request that is refused. If it is nil, what needs a refusal is skipped.
	Refused func(unique string) (proto.Message, error)

	// Effects counts the effects that are there: one for each executed action that isn't compensated. If it is nil, the
	// participant's own list of commands counts, and without that the answers alone.
	Effects func(ctx context.Context) (int, error)

	// Complete completes an accepted command. If it is nil, the participant completes it by itself.
	Complete func(ctx context.Context, commandID string) error
}

// Checker checks cases against one participant.
type Checker struct {
	suite Suite
	conn  grpc.ClientConnInterface
	run   string
	sagas atomic.Int64

	// described is the participant's answer to Describe, or nil if it doesn't serve it.
	described *treatyv1.DescribeResponse

	left []Left

	// waited says that a command got no answer in all its time.
	waited bool
}

// Left is what the checks have left behind at the participant.
type Left struct {
	// Method is the command's method, and Count how often it was sent.
	Method string `json:"method"`
	Count  int    `json:"count"`

	// Why says why it wasn't taken back.
	Why string `json:"why"`
}

// String is a line of a report.
func (l Left) String() string { return fmt.Sprintf("%d × %s: %s", l.Count, l.Method, l.Why) }

// ErrUnreachable is wrapped by the error of Start if nothing answers at the connection.
var ErrUnreachable = errors.New("the participant doesn't answer")

// ErrNotBelieved is wrapped by the error of Start if the participant doesn't believe this caller.
var ErrNotBelieved = errors.New("the participant doesn't believe this caller")

// Start asks the participant what it is. The error wraps ErrUnreachable or ErrNotBelieved, or says what else the
// participant answered.
func Start(ctx context.Context, suite Suite) (*Checker, error) {
	if suite.Timeout <= 0 {
		suite.Timeout = DefaultTimeout
	}
	if suite.Patience <= 0 {
		suite.Patience = DefaultPatience
	}
	id := make([]byte, 4)
	_, _ = rand.Read(id) // never fails
	c := &Checker{suite: suite, conn: suite.Conn, run: "conform-" + hex.EncodeToString(id)}
	described, err := c.describe(ctx, c.scope("0"), 1, nil)
	switch s := status.Convert(err); {
	case err == nil:
		c.described = described
	case s.Code() == codes.Unimplemented:
	case s.Code() == codes.Unauthenticated:
		return nil, fmt.Errorf("%w: %s", ErrNotBelieved, s.Message())
	case s.Code() == codes.Unavailable || s.Code() == codes.DeadlineExceeded:
		return nil, fmt.Errorf("%w: %s", ErrUnreachable, s.Message())
	default:
		return nil, fmt.Errorf("asking the participant what it is: %w", err)
	}
	return c, nil
}

// Saga is the prefix of the names of all sagas that the checker's commands belong to.
func (c *Checker) Saga() string { return wire.SagaName(c.run) }

// Left says what the checks have left behind.
func (c *Checker) Left() []Left { return c.left }

// leave notes an effect that stays.
func (c *Checker) leave(method, why string) {
	for i, l := range c.left {
		if l.Method == method && l.Why == why {
			c.left[i].Count++
			return
		}
	}
	c.left = append(c.left, Left{Method: method, Count: 1, Why: why})
}

// Plain reports whether the participant has no ParticipantService.
func (c *Checker) Plain() bool { return c.described == nil }

func (c *Checker) scope(part string) string { return wire.ScopeName(c.run+"-"+part, "0") }

// describe asks the participant, as the orchestrator of a scope.
func (c *Checker) describe(
	ctx context.Context, scope string, epoch uint64, request *treatyv1.DescribeRequest,
) (*treatyv1.DescribeResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, c.suite.Timeout)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, wire.ScopeKey, scope, wire.EpochKey, fmt.Sprint(epoch))
	if request == nil {
		request = new(treatyv1.DescribeRequest)
	}
	return treatyv1.NewParticipantServiceClient(c.conn).Describe(ctx, request)
}

// lists and closes report whether the participant answers these questions for a method.
func (c *Checker) lists(method string) bool {
	return c.can(treatyv1.ParticipantFeature_PARTICIPANT_FEATURE_LIST_COMMANDS, method)
}

func (c *Checker) closes(method string) bool {
	return c.can(treatyv1.ParticipantFeature_PARTICIPANT_FEATURE_CLOSE_COMMAND, method)
}

func (c *Checker) can(feature treatyv1.ParticipantFeature, method string) bool {
	return slices.Contains(c.described.GetFeatures(), feature) && slices.Contains(c.described.GetKeptMethods(), method)
}

// Verdict says whether a guarantee holds.
type Verdict int

// The verdicts.
const (
	Holds Verdict = iota
	Fails
	Skipped
)

// String is the verdict as a report has it.
func (v Verdict) String() string { return [...]string{"holds", "FAILS", "skipped"}[v] }

// Result is what a check of one guarantee came to.
type Result struct {
	Guarantee Guarantee
	Verdict   Verdict

	// Text says why a guarantee fails, why it was skipped, or how far it is known to hold.
	Text string

	// Took is how long the check took.
	Took time.Duration
}

// Guarantee is one promise of a participant.
type Guarantee struct {
	// ID is its short name, such as "duplicate".
	ID string

	// Promise is a sentence without a period.
	Promise string
}

type skipped struct{ why string }

func (s skipped) Error() string { return s.why }

func skip(why string) error { return skipped{why} }

// Command is a case that was looked at.
type Command struct {
	checker *Checker
	c       Case
	*command

	// broken is why no guarantee can be checked, once the first check has failed.
	broken bool

	// completed is how long the participant has taken to complete an accepted command.
	completed time.Duration
}

// Command reads a case's contract. The error says what is wrong with the case.
func (c *Checker) Command(given Case) (*Command, error) {
	read, err := commandOf(given.Method)
	if err != nil {
		return nil, err
	}
	if given.Request == nil {
		return nil, fmt.Errorf("%s has no request", Name(given.Method))
	}
	return &Command{checker: c, c: given, command: read}, nil
}

// Name is the method's name, "package.Service/Method".
func (c *Command) Name() string { return Name(c.method) }

// Kind is the command's kind as contracts write it, such as "compensatable".
func (c *Command) Kind() string { return c.kind() }

// answersOnly says that nobody counts effects.
const answersOnly = "the answers only"

// Counted says how effects are counted: "the probe", "the participant's list" or "the answers only".
func (c *Command) Counted() string {
	switch {
	case c.c.Effects != nil:
		return "the probe"
	case c.checker.lists(c.Name()):
		return "the participant's list"
	default:
		return answersOnly
	}
}

// Guarantees are those of the command's kind, in the order in which to check them.
func (c *Command) Guarantees() []Guarantee { return c.promises(checks) }

// ParticipantGuarantees are those of the participant as a whole. They are checked with one of its commands, after its
// own.
func (c *Command) ParticipantGuarantees() []Guarantee { return c.promises(participantChecks) }

func (c *Command) promises(of []check) []Guarantee {
	var all []Guarantee
	for _, k := range of {
		if (!k.undo || c.undo != nil) && (k.query || !c.query()) {
			all = append(all, k.Guarantee)
		}
	}
	return all
}

// Check checks a guarantee with the commands of sagas that no other check uses. If the participant can't execute the
// command at all, which the first check finds, the others are skipped. It isn't safe for concurrent use.
func (c *Command) Check(ctx context.Context, guarantee Guarantee) Result {
	start := time.Now()
	all := slices.Concat(checks, participantChecks)
	at := slices.IndexFunc(all, func(k check) bool { return k.ID == guarantee.ID })
	var err error
	if c.broken {
		err = skip("the command isn't executed: see above")
	} else {
		err = c.try(ctx, all[at].run)
	}
	c.broken = c.broken || at == 0 && err != nil
	result := Result{Guarantee: guarantee, Took: time.Since(start)}
	var why skipped
	switch {
	case errors.As(err, &why):
		result.Verdict, result.Text = Skipped, why.why
	case err != nil:
		result.Verdict, result.Text = Fails, err.Error()
	case c.Counted() == answersOnly && slices.Contains(aboutEffects, guarantee.ID):
		result.Text = "as far as the answers show: nobody counts the effects"
	}
	return result
}

// try runs a check. A panic of the author's probe fails it.
func (c *Command) try(ctx context.Context, run func(context.Context, *Command) error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("a function that the author of the test gave has panicked: %v", r)
		}
	}()
	return run(ctx, c)
}

// Resolver finds the descriptors of services.
type Resolver interface {
	FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error)
}

// Unchecked returns the names of the commands that the participant says it serves and that have no case, sorted. Sagas
// aren't among them. It knows none of a participant without ParticipantService.
func (c *Checker) Unchecked(commands []*Command, resolver Resolver) []string {
	var names []string
	for _, service := range c.described.GetServices() {
		found, err := resolver.FindDescriptorByName(protoreflect.FullName(service))
		descriptor, is := found.(protoreflect.ServiceDescriptor)
		if err != nil || !is {
			continue
		}
		for i := range descriptor.Methods().Len() {
			method := descriptor.Methods().Get(i)
			known := slices.ContainsFunc(commands, func(c *Command) bool { return c.Name() == Name(method) })
			if !known && !IsSaga(method) && Contract(method) != nil {
				names = append(names, Name(method))
			}
		}
	}
	slices.Sort(names)
	return names
}
