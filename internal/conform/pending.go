package conform

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/treatyhq/treaty/internal/wire"
)

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
