package conform

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
)

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
