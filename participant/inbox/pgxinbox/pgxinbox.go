// Package pgxinbox is package inbox for services that use PostgreSQL through pgx without package sql. All of that
// package holds here, and an inbox opened with [Open] is one of its inboxes, e.g. for inbox.Pending, inbox.Purge and
// participant.Options.Keepers. Only the handlers differ: they get a [Tx] with the methods of pgx.
package pgxinbox

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"google.golang.org/protobuf/proto"

	"github.com/treatyhq/treaty/participant"
	"github.com/treatyhq/treaty/participant/inbox"
)

// Open opens the inbox of a service whose database is PostgreSQL 15 or newer, and creates its tables if they don't
// exist. Its transactions use connections of the pool, which has to outlive it: one for each command that is handled at
// the same time. See [inbox.OpenPostgres] for the isolation level and for settings.
func Open(ctx context.Context, pool *pgxpool.Pool, options inbox.Options) (*inbox.Inbox, error) {
	return inbox.OpenPostgres(ctx, stdlib.OpenDBFromPool(pool), options)
}

// Handle is [inbox.Handle] with a handler that uses pgx.
func Handle[R proto.Message](ctx context.Context, in *inbox.Inbox, handler func(tx *Tx) (R, error)) (R, error) {
	return inbox.Handle(ctx, in, adapt(ctx, handler))
}

// Complete is [inbox.Complete] with a handler that uses pgx.
func Complete[R proto.Message](
	ctx context.Context, in *inbox.Inbox, command participant.Command, handler func(tx *Tx) (R, error),
) (R, error) {
	return inbox.Complete(ctx, in, command, adapt(ctx, handler))
}

// Refuse is [inbox.Refuse] with a handler that uses pgx. The handler may be nil.
func Refuse(
	ctx context.Context, in *inbox.Inbox, command participant.Command, refusal error, handler func(tx *Tx) error,
) error {
	if handler == nil {
		return inbox.Refuse(ctx, in, command, refusal, nil)
	}
	return inbox.Refuse(ctx, in, command, refusal, func(tx *inbox.Tx) error {
		_, err := adapt(ctx, func(tx *Tx) (proto.Message, error) { return nil, handler(tx) })(tx)
		return err
	})
}

// ActionReply is [inbox.ActionReply].
func ActionReply(ctx context.Context, in *inbox.Inbox, tx *Tx, out proto.Message) (bool, error) {
	if err := tx.finish(); err != nil {
		return false, err
	}
	return inbox.ActionReply(ctx, in, tx.inner, out)
}

// adapt makes a handler of package inbox.
func adapt[R proto.Message](ctx context.Context, handler func(tx *Tx) (R, error)) func(tx *inbox.Tx) (R, error) {
	return func(inner *inbox.Tx) (reply R, err error) {
		tx := &Tx{inner: inner}
		if err := inner.Raw(ctx, func(conn any) error {
			wrapper, ok := conn.(*stdlib.Conn)
			if !ok {
				return fmt.Errorf("the inbox's connections are %T: open it with pgxinbox.Open", conn)
			}
			tx.conn = wrapper.Conn()
			return nil
		}); err != nil {
			return reply, err
		}
		defer func() {
			tx.ended = true
			// Package inbox learns of a deadlock whatever the handler makes of it.
			if left := tx.finish(); left != nil || tx.failure != nil {
				_ = inner.Raw(ctx, func(any) error { return errors.Join(tx.failure, left) })
			}
		}()
		return handler(tx)
	}
}
