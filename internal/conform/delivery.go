package conform

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/treatyhq/treaty/internal/wire"
)

const (
	// concurrent is how many duplicates are sent at the same time.
	concurrent = 16

	// rounds is how often a check that depends on timing is repeated.
	rounds = 6
)

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
