package conform

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/codes"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
)

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
