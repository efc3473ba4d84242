package conform

import (
	"context"
	"fmt"
	"slices"

	"github.com/treatyhq/treaty/internal/wire"
)

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
