package conform

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
)

// pause is the wait between two attempts.
const pause = 20 * time.Millisecond

// trial is one step of one saga that only one check uses.
type trial struct {
	*Command
	saga    string // its id
	request proto.Message
	digest  string
	scope   string
	epoch   uint64
	asks    uint64 // the epoch of questions, unless it is 0: that of commands
	start   time.Time
	before  int // how many effects there were
	reply   proto.Message
	sent    bool // an action was sent
	undone  bool // and has certainly no effect
}

// trial starts a saga. end must be called.
func (c *Command) trial(ctx context.Context) (*trial, error) { return c.trialWith(ctx, c.c.Request) }

func (c *Command) trialWith(ctx context.Context, request func(string) (proto.Message, error)) (*trial, error) {
	unique := fmt.Sprintf("%s-%d", c.checker.run, c.checker.sagas.Add(1))
	made, err := request(unique)
	if err != nil {
		return nil, fmt.Errorf("making a request: %w", err)
	}
	if made == nil || made.ProtoReflect().Descriptor().FullName() != c.method.Input().FullName() {
		return nil, fmt.Errorf("the request must be a %s", c.method.Input().FullName())
	}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(made)
	if err != nil {
		return nil, fmt.Errorf("making a request: %w", err)
	}
	t := &trial{
		Command: c, saga: unique, request: made, digest: wire.RequestDigest(c.Name(), raw),
		scope: c.checker.scope("0"), epoch: 1, start: time.Now(),
	}
	t.before, _, err = t.effects(ctx)
	return t, err
}

// id is the command id.
func (t *trial) id() string { return wire.StepName(t.saga, "1") }

// end compensates the action if it may have run, and notes it otherwise.
func (t *trial) end(ctx context.Context) {
	if !t.sent || t.undone || t.query() {
		return
	}
	if t.Command.undo == nil {
		t.checker.leave(t.Name(), "executed, and has no compensation")
		return
	}
	if answer, err := t.undo(ctx, t.reply); err != nil || !answer.done() {
		t.checker.leave(t.Name(),
			fmt.Sprintf("of %s, perhaps executed; its compensation was answered %s", t.id(), answer))
	}
}

// metadata is that of a command of the trial.
func (t *trial) metadata(direction string, attempt int) []string {
	return []string{
		wire.SagaKey, wire.SagaName(t.saga), wire.CommandIDKey, t.id(), wire.DirectionKey, direction,
		wire.AttemptKey, strconv.Itoa(attempt), wire.EpochKey, strconv.FormatUint(t.epoch, 10),
		wire.ScopeKey, t.scope, wire.StartKey, strconv.FormatInt(t.start.UnixMicro(), 10),
		wire.RequestDigestKey, t.digest,
	}
}

// attempt sends the action once.
func (t *trial) attempt(ctx context.Context, number int) answer {
	t.sent = true
	return t.call(ctx, t.method, t.request, t.metadata(wire.Action, number)...)
}

func (t *trial) call(
	ctx context.Context, method protoreflect.MethodDescriptor, request proto.Message, md ...string,
) answer {
	return call(ctx, t.checker.conn, t.checker.suite.Timeout, method, request, md...)
}

// act sends the action until the answer isn't transient, as an orchestrator does.
func (t *trial) act(ctx context.Context) (answer, error) {
	return t.settle(ctx, t.attempt)
}

// undo sends the compensation until the answer isn't transient. reply may be nil.
func (t *trial) undo(ctx context.Context, reply proto.Message) (answer, error) {
	request, err := t.undoRequest(t.request, reply)
	if err != nil {
		return answer{}, fmt.Errorf("making the compensation's request: %w", err)
	}
	attempt := func(ctx context.Context, number int) answer {
		return t.call(ctx, t.Command.undo, request, t.metadata(wire.Compensation, number)...)
	}
	a, err := t.settle(ctx, attempt)
	if err == nil && a.accepted() {
		a, err = t.complete(ctx, attempt)
	}
	t.undone = t.undone || err == nil && a.done()
	return a, err
}

// patience is how long to wait for an answer. Once it has been waited for in vain, a part of it has to do, so that a
// participant that answers nothing doesn't hold all checks up.
func (c *Checker) patience() time.Duration {
	if c.waited {
		return c.suite.Patience / 10
	}
	return c.suite.Patience
}

// settle repeats an attempt while the answer is transient.
func (t *trial) settle(ctx context.Context, attempt func(ctx context.Context, number int) answer) (answer, error) {
	patience := t.checker.patience()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for number := 1; ; number++ {
		a := attempt(ctx, number)
		if !a.transient() {
			return a, nil
		}
		select {
		case <-ctx.Done():
			t.checker.waited = true
			return a, fmt.Errorf("no answer that settles the command after %s in %s; the last one: %s",
				attempts(number), patience, a)
		case <-time.After(pause):
		}
	}
}

func attempts(n int) string {
	if n == 1 {
		return "one attempt"
	}
	return fmt.Sprintf("%d attempts", n)
}

// execute sends the action until it is done, and waits for the completion of an accepted one.
func (t *trial) execute(ctx context.Context) (answer, error) {
	a, err := t.act(ctx)
	if err == nil && a.accepted() {
		a, err = t.complete(ctx, t.attempt)
	}
	switch {
	case err != nil:
		return a, err
	case !a.done():
		t.undone = a.refused()
		return a, fmt.Errorf("the action was answered %s, want OK: give a request that succeeds", a)
	}
	t.reply = a.reply
	return a, nil
}

// complete repeats an accepted command until it is completed.
func (t *trial) complete(ctx context.Context, attempt func(ctx context.Context, number int) answer) (answer, error) {
	start := time.Now()
	if t.c.Complete != nil {
		if err := t.c.Complete(ctx, t.id()); err != nil {
			return answer{}, fmt.Errorf("completing %s: %w", t.id(), err)
		}
	}
	patience := t.checker.patience()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for number := 2; ; number++ {
		a := attempt(ctx, number)
		if !a.accepted() && !a.transient() {
			t.completed = max(t.completed, time.Since(start))
			return a, nil
		}
		select {
		case <-ctx.Done():
			t.checker.waited = true
			return a, fmt.Errorf("the command was accepted, and not completed within %s; the last answer: %s",
				patience, a)
		case <-time.After(pause):
		}
	}
}

// effects counts the effects. It returns false if nobody can count them.
func (t *trial) effects(ctx context.Context) (n int, counted bool, err error) {
	if t.c.Effects != nil {
		if n, err = t.c.Effects(ctx); err != nil {
			return 0, false, fmt.Errorf("counting the effects: %w", err)
		}
		return n, true, nil
	}
	if !t.checker.lists(t.Name()) {
		return 0, false, nil
	}
	rows, err := t.list(ctx)
	if err != nil {
		return 0, false, err
	}
	for _, row := range rows {
		if row.GetVerdict() != treatyv1.CommandVerdict_COMMAND_VERDICT_EXECUTED {
			continue
		}
		switch row.GetDirection() {
		case treatyv1.StepDirection_STEP_DIRECTION_ACTION:
			n++
		case treatyv1.StepDirection_STEP_DIRECTION_COMPENSATION:
			n--
		}
	}
	return n, true, nil
}

// want compares the effects since the trial's begin.
func (t *trial) want(ctx context.Context, want int, when string) error {
	n, counted, err := t.effects(ctx)
	if err != nil || !counted {
		return err
	}
	if got := n - t.before; got != want {
		return fmt.Errorf("%s, the command has %s, want %s", when, number(got), number(want))
	}
	return nil
}

func number(n int) string {
	switch n {
	case 0:
		return "no effect"
	case 1:
		return "one effect"
	default:
		return fmt.Sprintf("%d effects", n)
	}
}

// list asks for the rows of the trial's saga.
func (t *trial) list(ctx context.Context) ([]*treatyv1.KnownCommand, error) {
	ctx, cancel := context.WithTimeout(ctx, t.checker.suite.Timeout)
	defer cancel()
	listed, err := treatyv1.NewParticipantServiceClient(t.checker.conn).ListCommands(t.asking(ctx),
		&treatyv1.ListCommandsRequest{Sagas: []string{wire.SagaName(t.saga)}})
	if err != nil {
		return nil, fmt.Errorf("ListCommands of %s: %w", wire.SagaName(t.saga), err)
	}
	return listed.GetCommands(), nil
}

// asking is a context for questions of the trial's scope.
func (t *trial) asking(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, wire.ScopeKey, t.scope, wire.EpochKey,
		strconv.FormatUint(cmp.Or(t.asks, t.epoch), 10))
}

// in runs a check in a trial of its own.
func (c *Command) in(ctx context.Context, run func(*trial) error) error {
	t, err := c.trial(ctx)
	if err != nil {
		return err
	}
	defer t.end(context.WithoutCancel(ctx))
	return run(t)
}

// step names what failed.
func step(what string, err error) error {
	if err == nil || errors.As(err, new(skipped)) {
		return err
	}
	return fmt.Errorf("%s: %w", what, err)
}
