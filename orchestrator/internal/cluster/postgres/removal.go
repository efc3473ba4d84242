package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// lockNotAvailable is the code of the error that a lock wasn't granted within lock_timeout.
	lockNotAvailable = "55P03"

	// blockerInterval is the time between two looks at the sessions that hold a removed member's fences, and before the
	// first one.
	blockerInterval = 50 * time.Millisecond
)

func isLockTimeout(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == lockNotAvailable
}

// removal ends a membership.
type removal struct {
	statement string // It deletes the member.
	member    string
	arguments []any // of the statement
}

// force removes the member and ends the sessions of its commits in flight. It returns how many members it has removed,
// 0 or 1.
//
// It is for a process that was stopped, or a connection that broke, while a transaction was being sent. PostgreSQL then
// waits for the rest, and none of its timeouts counts: to it, the session is neither idle nor executing a statement.
func (r removal) force(ctx context.Context, pool *pgxpool.Pool) (removed int64, err error) {
	err = pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, limitLocks); err != nil {
			return err
		}
		var session int32
		if err := tx.QueryRow(ctx, readSession).Scan(&session); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, r.statement, r.arguments...)
		if err != nil {
			return err
		}
		removed = tag.RowsAffected()
		fenced := make(chan error, 1)
		go func() {
			_, err := tx.Exec(ctx, fenceRemoved, r.member)
			fenced <- err
		}()
		for {
			select {
			case err := <-fenced:
				return err
			case <-time.After(blockerInterval):
				if _, err := pool.Exec(ctx, endBlockers, session); err != nil {
					return errors.Join(err, <-fenced)
				}
			}
		}
	})
	return removed, err
}
