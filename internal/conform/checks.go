package conform

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
)

const (
	// concurrent is how many duplicates are sent at the same time.
	concurrent = 16

	// rounds is how often a check that depends on timing is repeated.
	rounds = 6
)

// check is a guarantee and how to check it.
type check struct {
	Guarantee

	// undo says that the check needs a compensation, and query that it holds for queries, too.
	undo, query bool

	run func(ctx context.Context, c *Command) error
}

// checks are in the order in which they are made and reported. The first one decides whether the others are made.
var checks = []check{
	{Guarantee{"executed", "a command is executed and answered"}, false, true, executed},
	{Guarantee{"duplicate", "a second delivery gets the same answer and has no effect"}, false, false, duplicate},
	{Guarantee{"concurrent-duplicates", "of deliveries at the same time, one has an effect"}, false, false,
		concurrentDuplicates},
	{Guarantee{"reply-lost", "a delivery after a lost reply gets that reply"}, false, false, replyLost},
	{Guarantee{"restart", "a duplicate after a restart is one"}, false, false, afterRestart},
	{Guarantee{"undo", "the compensation takes the effect back"}, true, false, undone},
	{Guarantee{"undo-without-reply", "so does one without the action's reply"}, true, false, undoneWithoutReply},
	{Guarantee{"undo-twice", "a second compensation has no effect"}, true, false, undoneTwice},
	{Guarantee{"undo-first", "a compensation before its action has no effect, and the action is refused"}, true, false,
		undoneFirst},
	{Guarantee{"late-action", "an action after its compensation is refused"}, true, false, lateAction},
	{Guarantee{"undo-beside-action", "an action and its compensation at the same time leave no effect"}, true, false,
		undoneBeside},
	{Guarantee{"refusal", "a refusal has no effect, stays, and carries a rejection of the contract"}, false, true,
		refusal},
	{Guarantee{"pending", "an accepted command stays accepted until it is completed once"}, false, false, pending},
	{Guarantee{"pending-undone", "a completion after the compensation has no effect"}, true, false, pendingUndone},
	{Guarantee{"done-mark", "an OK that completes a long command is marked done"}, false, false, doneMark},
	{Guarantee{"stale-epoch", "a replaced orchestrator's command is refused"}, false, false, staleEpoch},
	{Guarantee{"epoch-ahead", "an epoch far in the future isn't believed"}, false, false, epochAhead},
	{Guarantee{"other-request", "another request under a known command id is refused"}, false, false, otherRequest},
	{Guarantee{"broken-metadata", "a command with damaged metadata isn't executed"}, false, false, brokenMetadata},
	{Guarantee{"no-metadata", "a call without metadata is an ordinary call"}, false, true, noMetadata},
	{Guarantee{"marks", "errors say what they cover"}, false, false, marks},
	{Guarantee{"list", "ListCommands tells what became of a command"}, false, false, listed},
	{Guarantee{"close", "CloseCommand tells what became of an action, or keeps it from being executed"}, false, false,
		closed},
	{Guarantee{"horizon", "a command from before the horizon isn't executed"}, false, false, horizon},
}

func executed(ctx context.Context, c *Command) error {
	return c.in(ctx, func(t *trial) error {
		if _, err := t.execute(ctx); err != nil {
			return err
		}
		want := 1
		if t.query() {
			want = 0
		}
		return t.want(ctx, want, "after one delivery")
	})
}

func duplicate(ctx context.Context, c *Command) error {
	return c.in(ctx, func(t *trial) error {
		first, err := t.execute(ctx)
		if err != nil {
			return err
		}
		for range 2 {
			if err := t.again(ctx, first); err != nil {
				return err
			}
		}
		return t.want(ctx, 1, "after three deliveries")
	})
}

// aboutEffects are the guarantees of which the answers alone say little.
var aboutEffects = []string{"undo", "undo-without-reply", "undo-twice"}

// again sends the action once more. The answer must be that of before.
func (t *trial) again(ctx context.Context, before answer) error {
	second, err := t.act(ctx)
	if err != nil {
		return err
	}
	if !same(before, second) {
		return fmt.Errorf("the duplicate was answered %s%s, want the answer of the first delivery: %s", second,
			differing(before, second), before)
	}
	return nil
}

// differing says that two replies differ, without their content.
func differing(a, b answer) string {
	if a.done() && b.done() {
		return " with another reply"
	}
	return ""
}

func concurrentDuplicates(ctx context.Context, c *Command) error {
	return c.in(ctx, func(t *trial) error {
		t.sent = true
		answers := make(chan answer, concurrent)
		for i := range concurrent {
			go func() {
				answers <- t.call(ctx, t.method, t.request, t.metadata(wire.Action, i+1)...)
			}()
		}
		var all []answer
		for range concurrent {
			all = append(all, <-answers)
		}
		last, err := t.execute(ctx)
		if err != nil {
			return err
		}
		for _, a := range all {
			if !a.transient() && !a.accepted() && !same(a, last) {
				return fmt.Errorf("one of %d deliveries at the same time was answered %s%s, and a later one %s",
					concurrent, a, differing(a, last), last)
			}
		}
		return t.want(ctx, 1, fmt.Sprintf("after %d deliveries at the same time", concurrent))
	})
}

// replyLost gives attempts up at various moments, as a broken connection does.
func replyLost(ctx context.Context, c *Command) error {
	patience := 200 * time.Microsecond
	for range rounds {
		err := c.in(ctx, func(t *trial) error {
			t.sent = true
			_ = call(ctx, t.checker.conn, patience, t.method, t.request, t.metadata(wire.Action, 1)...)
			first, err := t.execute(ctx)
			if err != nil {
				return err
			}
			if err := t.again(ctx, first); err != nil {
				return err
			}
			return t.want(ctx, 1,
				fmt.Sprintf("after an attempt that was given up after %s, and two deliveries", patience))
		})
		if err != nil {
			return err
		}
		patience *= 4
	}
	return nil
}

func afterRestart(ctx context.Context, c *Command) error {
	if c.checker.suite.Restart == nil {
		return skip("nobody says how to restart the participant")
	}
	return c.in(ctx, func(t *trial) error {
		first, err := t.execute(ctx)
		if err != nil {
			return err
		}
		if err := c.checker.restart(ctx); err != nil {
			return err
		}
		if err := t.again(ctx, first); err != nil {
			return step("after a restart", err)
		}
		return t.want(ctx, 1, "after a delivery, a restart and another delivery")
	})
}

// restart restarts the participant and waits until it answers.
func (c *Checker) restart(ctx context.Context) error {
	conn, err := c.suite.Restart(ctx)
	if err != nil {
		return fmt.Errorf("restarting the participant: %w", err)
	}
	if conn != nil {
		c.conn = conn
	}
	ctx, cancel := context.WithTimeout(ctx, c.suite.Patience)
	defer cancel()
	for {
		_, err := c.describe(ctx, c.scope("0"), 1, nil)
		if code := status.Code(err); code != codes.Unavailable && code != codes.DeadlineExceeded {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the participant doesn't answer %s after its restart: %w", c.suite.Patience, err)
		case <-time.After(pause):
		}
	}
}

func undone(ctx context.Context, c *Command) error {
	return c.in(ctx, func(t *trial) error {
		if _, err := t.execute(ctx); err != nil {
			return err
		}
		return t.takeBack(ctx, t.reply)
	})
}

func undoneWithoutReply(ctx context.Context, c *Command) error {
	return c.in(ctx, func(t *trial) error {
		if _, err := t.execute(ctx); err != nil {
			return err
		}
		return t.takeBack(ctx, nil)
	})
}

// takeBack compensates. The answer must be OK, and the effect gone.
func (t *trial) takeBack(ctx context.Context, reply proto.Message) error {
	a, err := t.undo(ctx, reply)
	if err != nil {
		return step("the compensation", err)
	}
	if !a.done() {
		return fmt.Errorf("the compensation was answered %s, want OK", a)
	}
	return t.want(ctx, 0, "after the compensation")
}

func undoneTwice(ctx context.Context, c *Command) error {
	return c.in(ctx, func(t *trial) error {
		if _, err := t.execute(ctx); err != nil {
			return err
		}
		for range 3 {
			if err := t.takeBack(ctx, t.reply); err != nil {
				return err
			}
		}
		return nil
	})
}

func undoneFirst(ctx context.Context, c *Command) error {
	return c.in(ctx, func(t *trial) error {
		if err := t.takeBack(ctx, nil); err != nil {
			return step("before the action", err)
		}
		if err := t.late(ctx); err != nil {
			return err
		}
		return step("after the refused action", t.takeBack(ctx, nil))
	})
}

// late sends the action after its compensation. It must be refused.
func (t *trial) late(ctx context.Context) error {
	for range 2 {
		a, err := t.act(ctx)
		switch {
		case err != nil:
			return step("the late action", err)
		case a.code() == codes.OK:
			t.undone = false
			return fmt.Errorf("an action that arrived after its compensation was answered %s, want "+
				"FAILED_PRECONDITION with %s: the saga would never undo it", a, wire.Reason(
				treatyv1.ErrorReason_ERROR_REASON_COMPENSATED_BEFORE))
		case !a.refused():
			return fmt.Errorf("an action that arrived after its compensation was answered %s, want "+
				"FAILED_PRECONDITION with %s", a, wire.Reason(treatyv1.ErrorReason_ERROR_REASON_COMPENSATED_BEFORE))
		}
	}
	return t.want(ctx, 0, "after an action that arrived after its compensation")
}

func lateAction(ctx context.Context, c *Command) error {
	return c.in(ctx, func(t *trial) error {
		if _, err := t.execute(ctx); err != nil {
			return err
		}
		if err := t.takeBack(ctx, t.reply); err != nil {
			return err
		}
		return t.late(ctx)
	})
}

func undoneBeside(ctx context.Context, c *Command) error {
	for range rounds {
		err := c.in(ctx, func(t *trial) error {
			type outcome struct {
				answer
				error
			}
			acted := make(chan outcome)
			t.sent = true
			go func() {
				a, err := t.settle(ctx, func(ctx context.Context, number int) answer {
					return t.call(ctx, t.method, t.request, t.metadata(wire.Action, number)...)
				})
				acted <- outcome{a, err}
			}()
			back := t.takeBackBeside(ctx)
			action := <-acted
			switch {
			case back != nil:
				return back
			case action.error != nil:
				return step("the action beside its compensation", action.error)
			}
			if err := t.want(ctx, 0, "after an action and its compensation at the same time"); err != nil {
				return err
			}
			return t.late(ctx)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// takeBackBeside compensates while the action may run.
func (t *trial) takeBackBeside(ctx context.Context) error {
	a, err := t.undo(ctx, nil)
	if err == nil && !a.done() {
		err = fmt.Errorf("answered %s, want OK", a)
	}
	return step("the compensation beside its action", err)
}

func refusal(ctx context.Context, c *Command) error {
	if c.c.Refused == nil {
		return skip("no request is given that is refused")
	}
	t, err := c.trialWith(ctx, c.c.Refused)
	if err != nil {
		return err
	}
	defer t.end(context.WithoutCancel(ctx))
	first, err := t.act(ctx)
	if err == nil && first.accepted() {
		first, err = t.complete(ctx, t.attempt)
	}
	switch {
	case err != nil:
		return err
	case !first.refused():
		return fmt.Errorf("the request that is refused was answered %s", first)
	}
	if err := t.declared(first); err != nil || t.query() {
		return err
	}
	if err := t.again(ctx, first); err != nil {
		return err
	}
	if err := t.want(ctx, 0, "after a refusal"); err != nil {
		return err
	}
	if t.Command.undo != nil {
		return step("after a refusal", t.takeBack(ctx, nil))
	}
	t.undone = true
	return nil
}

// declared checks that the contract knows the rejections of a refusal.
func (t *trial) declared(a answer) error {
	for _, name := range a.rejections() {
		if !slices.Contains(t.contract.GetRejections(), name) {
			return fmt.Errorf("the refusal carries a %s, which the contract of %s doesn't name in rejections", name,
				t.Name())
		}
	}
	return nil
}

func pending(ctx context.Context, c *Command) error {
	return c.in(ctx, func(t *trial) error {
		first, err := t.act(ctx)
		switch {
		case err != nil:
			return err
		case !first.accepted():
			return skip("the command was completed at once")
		}
		second, err := t.act(ctx)
		if err != nil {
			return err
		}
		if !second.accepted() && !second.done() {
			return fmt.Errorf("the duplicate of an accepted command was answered %s", second)
		}
		done, err := t.execute(ctx)
		if err != nil {
			return err
		}
		if err := t.again(ctx, done); err != nil {
			return step("after the completion", err)
		}
		return t.want(ctx, 1, "after the completion and a duplicate")
	})
}

func pendingUndone(ctx context.Context, c *Command) error {
	return c.in(ctx, func(t *trial) error {
		first, err := t.act(ctx)
		switch {
		case err != nil:
			return err
		case !first.accepted():
			return skip("the command was completed at once")
		}
		if err := t.takeBack(ctx, nil); err != nil {
			return err
		}
		if t.c.Complete != nil {
			// It may say that there is nothing to complete.
			_ = t.c.Complete(ctx, t.id())
		} else {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(2*c.completed + 100*time.Millisecond):
			}
		}
		return step("after a completion that came too late", t.late(ctx))
	})
}

func doneMark(ctx context.Context, c *Command) error {
	switch {
	case c.contract.GetCompleteWithin() == nil:
		return skip("the contract sets no complete_within")
	case c.checker.Plain():
		return skip("the participant doesn't say that it marks its answers")
	}
	return c.in(ctx, func(t *trial) error {
		a, err := t.execute(ctx)
		if err != nil {
			return err
		}
		if !slices.Equal(a.marks, []string{wire.AnswerDone}) {
			return fmt.Errorf("the OK has the marks %q, want %q: without it, a proxy that drops trailers turns "+
				"\"accepted\" into \"done\"", a.marks, wire.AnswerDone)
		}
		return nil
	})
}

func staleEpoch(ctx context.Context, c *Command) error {
	return c.in(ctx, func(t *trial) error {
		t.scope, t.epoch = c.checker.scope(t.saga), 5
		if _, err := t.execute(ctx); err != nil {
			return err
		}
		err := c.in(ctx, func(old *trial) error {
			old.scope, old.epoch, old.asks = t.scope, 4, t.epoch
			a, err := old.act(ctx)
			if err != nil {
				return err
			}
			if a.code() != codes.Aborted || a.reason() != treatyv1.ErrorReason_ERROR_REASON_STALE_EPOCH {
				return fmt.Errorf("a command under epoch 4, after one under epoch 5 of the same scope, was answered "+
					"%s, want ABORTED with STALE_EPOCH", a)
			}
			if err := old.want(ctx, 0, "after a command under an epoch that was replaced"); err != nil {
				return err
			}
			old.undone = true
			return nil
		})
		if err != nil {
			return err
		}
		t.epoch = 4
		a, err := t.act(ctx)
		t.epoch = 5
		if err != nil {
			return err
		}
		if a.reason() != treatyv1.ErrorReason_ERROR_REASON_STALE_EPOCH {
			return fmt.Errorf("a duplicate under epoch 4 was answered %s, want ABORTED with STALE_EPOCH", a)
		}
		return t.want(ctx, 1, "after a duplicate under an epoch that was replaced")
	})
}

func epochAhead(ctx context.Context, c *Command) error {
	return c.in(ctx, func(t *trial) error {
		t.scope, t.epoch, t.asks = c.checker.scope(t.saga), uint64(time.Now().Add(48*time.Hour).UnixMilli())<<20, 1
		a, err := t.act(ctx)
		t.epoch = 1
		if err != nil {
			return err
		}
		if a.code() != codes.Unauthenticated || a.reason() != treatyv1.ErrorReason_ERROR_REASON_EPOCH_AHEAD {
			return fmt.Errorf("a command under an epoch of the day after tomorrow was answered %s, want "+
				"UNAUTHENTICATED with EPOCH_AHEAD: no later epoch could follow", a)
		}
		if err := t.want(ctx, 0, "after a command under an epoch of the day after tomorrow"); err != nil {
			return err
		}
		_, err = t.execute(ctx)
		return step("with a present epoch of the same scope", err)
	})
}

func otherRequest(ctx context.Context, c *Command) error {
	return c.in(ctx, func(t *trial) error {
		first, err := t.execute(ctx)
		if err != nil {
			return err
		}
		digest := t.digest
		defer func() { t.digest = digest }()
		other, err := c.c.Request(t.saga + "-other")
		if err != nil {
			return fmt.Errorf("making another request: %w", err)
		}
		t.digest = wire.RequestDigest(c.Name(), []byte("another request"))
		a := t.call(ctx, t.method, other, t.metadata(wire.Action, 2)...)
		if a.code() != codes.Internal || a.reason() != treatyv1.ErrorReason_ERROR_REASON_OTHER_REQUEST {
			return fmt.Errorf("another request under the same command id was answered %s, "+
				"want INTERNAL with OTHER_REQUEST", a)
		}
		if t.Command.undo != nil {
			request, err := t.undoRequest(other, nil)
			if err != nil {
				return err
			}
			a := t.call(ctx, t.Command.undo, request, t.metadata(wire.Compensation, 1)...)
			if a.reason() != treatyv1.ErrorReason_ERROR_REASON_OTHER_REQUEST {
				return fmt.Errorf("a compensation that names another action was answered %s, "+
					"want INTERNAL with OTHER_REQUEST", a)
			}
		}
		t.digest = digest
		if err := t.again(ctx, first); err != nil {
			return err
		}
		return t.want(ctx, 1, "after another request under the same command id")
	})
}

func brokenMetadata(ctx context.Context, c *Command) error {
	damages := []struct {
		name   string
		damage func(t *trial) []string
	}{
		{"without the direction", func(t *trial) []string { return without(t.all(), wire.DirectionKey) }},
		{"without the command id", func(t *trial) []string { return without(t.all(), wire.CommandIDKey) }},
		{"with the command id twice", func(t *trial) []string { return append(t.all(), wire.CommandIDKey, t.id()) }},
		{"with a direction that doesn't exist", func(t *trial) []string {
			return append(without(t.all(), wire.DirectionKey), wire.DirectionKey, "sideways")
		}},
		{"with an epoch that is no number", func(t *trial) []string {
			return append(without(t.all(), wire.EpochKey), wire.EpochKey, "new")
		}},
	}
	for _, d := range damages {
		err := c.in(ctx, func(t *trial) error {
			a := t.call(ctx, t.method, t.request, d.damage(t)...)
			if a.code() != codes.InvalidArgument ||
				a.reason() != treatyv1.ErrorReason_ERROR_REASON_METADATA_INVALID {
				return fmt.Errorf("a command %s was answered %s, want INVALID_ARGUMENT with METADATA_INVALID",
					d.name, a)
			}
			return t.want(ctx, 0, "after a command "+d.name)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *trial) all() []string { return t.metadata(wire.Action, 1) }

// without removes a key and its value.
func without(md []string, key string) []string {
	at := slices.Index(md, key)
	return slices.Concat(md[:at], md[at+2:])
}

func noMetadata(ctx context.Context, c *Command) error {
	return c.in(ctx, func(t *trial) error {
		a := t.call(ctx, t.method, t.request)
		if a.code() == codes.OK && !t.query() {
			t.checker.leave(t.Name(), "called without metadata")
		}
		switch {
		case a.done() && t.c.Effects != nil && !t.query(): // the participant's list doesn't have the call
			return t.want(ctx, 1, "after a call without metadata")
		case a.code() == codes.OK:
			return nil
		case a.transient():
			return fmt.Errorf("a call without metadata was answered %s, want OK or a refusal", a)
		default:
			return t.want(ctx, 0, "after a call without metadata that was refused")
		}
	})
}

// marks looks at the marks of errors whose meaning is fixed.
func marks(ctx context.Context, c *Command) error {
	var settled, attempt answer
	err := c.in(ctx, func(t *trial) error {
		if t.Command.undo == nil {
			return nil
		}
		if err := t.takeBack(ctx, nil); err != nil {
			return err
		}
		var err error
		settled, err = t.act(ctx)
		return err
	})
	if err != nil {
		return err
	}
	err = c.in(ctx, func(t *trial) error {
		attempt = t.call(ctx, t.method, t.request, without(t.all(), wire.DirectionKey)...)
		return nil
	})
	if err != nil {
		return err
	}
	if c.checker.Plain() && len(settled.marks)+len(attempt.marks) == 0 {
		return skip("the participant marks no answers: the orchestrator treats it as plain")
	}
	if c.undo != nil && !slices.Equal(settled.marks, []string{wire.AnswerSettled}) {
		return fmt.Errorf("an action after its compensation was answered %s, want the mark %q", settled,
			wire.AnswerSettled)
	}
	if !slices.Equal(attempt.marks, []string{wire.AnswerAttempt}) {
		return fmt.Errorf("a command without its direction was answered %s, want the mark %q", attempt,
			wire.AnswerAttempt)
	}
	if c.c.Refused == nil {
		return nil
	}
	t, err := c.trialWith(ctx, c.c.Refused)
	if err != nil {
		return err
	}
	defer t.end(context.WithoutCancel(ctx))
	refused, err := t.act(ctx)
	if err != nil || !refused.refused() {
		return err // another check says so
	}
	t.undone = true
	// One that was decided before the inbox covers its own attempt only.
	if !slices.Equal(refused.marks, []string{wire.AnswerSettled}) &&
		!slices.Equal(refused.marks, []string{wire.AnswerAttempt}) {
		return fmt.Errorf("a refusal was answered %s, want the mark %q, or %q if no inbox has stored it", refused,
			wire.AnswerSettled, wire.AnswerAttempt)
	}
	return nil
}

func listed(ctx context.Context, c *Command) error {
	if !c.checker.lists(c.Name()) {
		return skip("the participant doesn't serve ListCommands for the method")
	}
	return c.in(ctx, func(t *trial) error {
		if _, err := t.execute(ctx); err != nil {
			return err
		}
		rows, err := t.list(ctx)
		if err != nil {
			return err
		}
		if len(rows) != 1 {
			return fmt.Errorf("ListCommands tells %d commands of a saga with one", len(rows))
		}
		row := rows[0]
		for _, is := range []struct{ what, got, want string }{
			{"command_id", row.GetCommandId(), t.id()},
			{"direction", row.GetDirection().String(), treatyv1.StepDirection_STEP_DIRECTION_ACTION.String()},
			{"method", row.GetMethod(), t.Name()},
			{"verdict", row.GetVerdict().String(), treatyv1.CommandVerdict_COMMAND_VERDICT_EXECUTED.String()},
			{"request_digest", row.GetRequestDigest(), t.digest},
			{"saga_start", micros(row.GetSagaStart().AsTime()), micros(t.start)},
		} {
			if is.got != is.want {
				return fmt.Errorf("ListCommands tells the %s %q, want %q", is.what, is.got, is.want)
			}
		}
		return nil
	})
}

func micros(t time.Time) string { return t.UTC().Truncate(time.Microsecond).Format(time.RFC3339Nano) }
