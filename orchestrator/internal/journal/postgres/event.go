package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// eventColumns are the columns that scanEvent reads.
const eventColumns = `e.position, e.source, e.id, (SELECT name FROM names n WHERE n.key = e.type), e.subject, e.time,
	e.store_time, coalesce(e.publisher, ''), e.data`

func scanEvent(row pgx.CollectableRow) (*journal.Event, error) {
	var position, time, storeTime int64
	e := &journal.Event{}
	err := row.Scan(&position, &e.Source, &e.ID, &e.Type, &e.Subject, &time, &storeTime, &e.Publisher, &e.Data)
	e.Position, e.Time, e.StoreTime = uint64(position), timeOf(&time), timeOf(&storeTime)
	for _, text := range []*string{&e.Source, &e.ID, &e.Type, &e.Subject, &e.Publisher} {
		*text = decoded(*text)
	}
	return e, err
}

// nextQuery finds the earliest event after a saga's creation that one of some awaits is for, and which one.
const nextQuery = `SELECT l.position, u.number
	FROM unnest($1::text[], $2::text[], $3::bigint[]) WITH ORDINALITY AS u (type, subject, after, number)
	JOIN names n ON n.name = u.type
	CROSS JOIN LATERAL (SELECT e.position FROM events e WHERE e.subject = u.subject AND e.type = n.key
		AND e.position > greatest(u.after, $4::bigint) ORDER BY e.position LIMIT 1) AS l
	ORDER BY l.position, u.number LIMIT 1`

// NextEvent implements journal.Store.
func (d *Database) NextEvent(
	ctx context.Context, saga string, awaits []journal.Await,
) (event *journal.Event, index int, err error) {
	types, subjects, afters := make([]string, len(awaits)), make([]string, len(awaits)), make([]int64, len(awaits))
	for i, await := range awaits {
		types[i], subjects[i], afters[i] = encoded(await.Type), encoded(await.Subject), signed(await.After)
	}
	err = d.read(ctx, "find an event", func(ctx context.Context, tx pgx.Tx) error {
		event, index = nil, 0
		var created, position, number int64
		err := tx.QueryRow(ctx, `SELECT created FROM sagas WHERE id = $1`, encoded(saga)).Scan(&created)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("saga %s: %w", saga, journal.ErrNotFound)
		} else if err != nil {
			return err
		}
		err = tx.QueryRow(ctx, nextQuery, types, subjects, afters, created).Scan(&position, &number)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		} else if err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `SELECT `+eventColumns+` FROM events e WHERE e.position = $1`, position)
		if err != nil {
			return err
		}
		index = int(number - 1)
		event, err = pgx.CollectExactlyOneRow(rows, scanEvent)
		return err
	})
	return event, index, err
}

// maxMerged is the maximum number of types for which a page of events merges one search in an index per type. With more
// types, all events are scanned.
const maxMerged = 32

// Events implements journal.Store.
func (d *Database) Events(ctx context.Context, params journal.EventsParams) (events []*journal.Event, err error) {
	sql, args := eventsQuery(params)
	err = d.query(ctx, "read events", func(ctx context.Context, q querier) error {
		if err := journal.ValidateLimit(params.Limit); err != nil {
			return err
		}
		rows, err := q.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		all, err := pgx.CollectRows(rows, scanEvent)
		events = nil
		for _, event := range all {
			if params.Full(events) && len(events) > 0 {
				break
			}
			events = append(events, event)
		}
		return err
	})
	return events, err
}

// sizeOf is about what Event.Size returns.
const sizeOf = `(64 + octet_length(e.source) + octet_length(e.id) + octet_length(e.subject) + octet_length(e.data)
	+ (SELECT octet_length(name) FROM names n WHERE n.key = e.type))`

func eventsQuery(params journal.EventsParams) (sql string, args []any) {
	var c condition
	where := ` WHERE e.position > ` + c.arg(signed(params.After)) + `::bigint`
	if params.Subject != "" {
		where += ` AND e.subject = ` + c.arg(encoded(params.Subject))
	}
	limit := c.arg(params.Limit)
	page := ` FROM events e`
	if len(params.Types) > 0 {
		types := make([]string, len(params.Types))
		for i, name := range params.Types {
			types[i] = encoded(name)
		}
		keys := `(SELECT key FROM names WHERE name = ANY (` + c.arg(types) + `::text[]))`
		if len(types) <= maxMerged {
			page = ` FROM ` + keys + ` AS k CROSS JOIN LATERAL (SELECT * FROM events e` + where +
				` AND e.type = k.key ORDER BY e.position LIMIT ` + limit + `) AS e`
		} else {
			where += ` AND e.type IN ` + keys
		}
	}
	page += where
	if params.MaxBytes > 0 {
		sql = `SELECT ` + eventColumns + ` FROM (SELECT e.*, sum(` + sizeOf + `) OVER (ORDER BY e.position) - ` +
			sizeOf + ` AS before FROM (SELECT e.*` + page + ` ORDER BY e.position LIMIT ` + limit + `) AS e) AS e
			WHERE e.before < ` + c.arg(params.MaxBytes)
	} else {
		sql = `SELECT ` + eventColumns + page
	}
	return sql + ` ORDER BY e.position LIMIT ` + limit, c.args
}

// EventRange implements journal.Store.
func (d *Database) EventRange(ctx context.Context) (oldest, newest uint64, err error) {
	err = d.query(ctx, "read the range of events", func(ctx context.Context, q querier) error {
		var first, last int64
		err := q.QueryRow(ctx, `SELECT coalesce((SELECT min(position) FROM events), 0),
			coalesce((SELECT max(position) FROM events), 0)`).Scan(&first, &last)
		oldest, newest = uint64(first), uint64(last)
		return err
	})
	return oldest, newest, err
}
