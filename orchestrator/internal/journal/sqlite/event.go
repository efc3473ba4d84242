package sqlite

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ncruces/go-sqlite3"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// eventColumns are the columns that scanEvent reads.
const eventColumns = `e.position, e.source, e.id, (SELECT name FROM event_types WHERE event_types.key = e.type),
	e.subject, e.time, e.store_time, e.data, e.publisher`

func scanEvent(stmt *sqlite3.Stmt) *journal.Event {
	return &journal.Event{
		Position:  uint64(stmt.ColumnInt64(0)),
		Source:    stmt.ColumnText(1),
		ID:        stmt.ColumnText(2),
		Type:      stmt.ColumnText(3),
		Subject:   stmt.ColumnText(4),
		Time:      columnTime(stmt, 5),
		StoreTime: columnTime(stmt, 6),
		Data:      stmt.ColumnBlob(7, nil),
		Publisher: stmt.ColumnText(8),
	}
}

// nextEventQuery finds the earliest event of a type and subject after two positions.
const nextEventQuery = `SELECT position FROM events
	WHERE subject = ?1 AND type = (SELECT key FROM event_types WHERE name = ?2) AND position > max(?3, ?4)
	ORDER BY position LIMIT 1`

// NextEvent implements journal.Store.
func (s *Store) NextEvent(
	ctx context.Context, saga string, awaits []journal.Await,
) (event *journal.Event, index int, err error) {
	err = s.read(ctx, "find an event", func(r *reader) error {
		created, found := int64(0), false
		err := r.query(`SELECT created FROM sagas WHERE id = ?`, []any{saga}, func(stmt *sqlite3.Stmt) error {
			created, found = stmt.ColumnInt64(0), true
			return nil
		})
		if err != nil {
			return err
		}
		if !found {
			return fmt.Errorf("saga %s: %w", saga, journal.ErrNotFound)
		}
		earliest := int64(0)
		for i, await := range awaits {
			args := []any{await.Subject, await.Type, signed(await.After), created}
			err := r.query(nextEventQuery, args, func(stmt *sqlite3.Stmt) error {
				if position := stmt.ColumnInt64(0); earliest == 0 || position < earliest {
					earliest, index = position, i
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		if earliest == 0 {
			return nil
		}
		sql := `SELECT ` + eventColumns + ` FROM events e WHERE e.position = ?`
		return r.query(sql, []any{earliest}, func(stmt *sqlite3.Stmt) error {
			event = scanEvent(stmt)
			return nil
		})
	})
	return event, index, err
}

// maxMerged is the maximum number of types for which a page of events merges one search in an index per type. With more
// types, all events are scanned.
const maxMerged = 32

// Events implements journal.Store.
func (s *Store) Events(ctx context.Context, params journal.EventsParams) ([]*journal.Event, error) {
	var events []*journal.Event
	err := s.read(ctx, "read events", func(r *reader) error {
		if err := journal.ValidateLimit(params.Limit); err != nil {
			return err
		}
		if params.Subject != "" && len(params.Types) == 0 {
			// The index sorts the events of a subject by type. If the query doesn't list the types, SQLite reads and
			// sorts all events of the subject for each page.
			limit := int64(maxMerged + 1)
			err := r.query(`SELECT name FROM event_types LIMIT ?`, []any{limit}, func(stmt *sqlite3.Stmt) error {
				params.Types = append(params.Types, stmt.ColumnText(0))
				return nil
			})
			if err != nil {
				return err
			}
			if len(params.Types) > maxMerged {
				params.Types = nil
			}
		}
		sql, args := eventsQuery(params)
		err := r.query(sql, args, func(stmt *sqlite3.Stmt) error {
			events = append(events, scanEvent(stmt))
			if params.Full(events) {
				return errPageFull
			}
			return nil
		})
		if errors.Is(err, errPageFull) {
			return nil
		}
		return err
	})
	return events, err
}

// errPageFull ends the reading of a page.
var errPageFull = errors.New("the page is full")

func eventsQuery(params journal.EventsParams) (sql string, args []any) {
	var c condition
	rows := `SELECT ` + eventColumns + ` FROM events e WHERE e.position > ` + c.arg(signed(params.After))
	if params.Subject != "" {
		rows += ` AND e.subject = ` + c.arg(params.Subject)
	}
	types := slices.Compact(slices.Sorted(slices.Values(params.Types)))
	var selects []string
	if len(types) <= maxMerged {
		for _, name := range types {
			selects = append(selects, rows+` AND e.type = (SELECT key FROM event_types WHERE name = `+c.arg(name)+`)`)
		}
	} else {
		for i, name := range types {
			types[i] = c.arg(name)
		}
		keys := `SELECT key FROM event_types WHERE name IN (` + strings.Join(types, ", ") + `)`
		selects = []string{rows + ` AND +e.type IN (` + keys + `)`}
	}
	if len(selects) == 0 {
		selects = []string{rows}
	}
	return strings.Join(selects, ` UNION ALL `) + ` ORDER BY 1 LIMIT ` + c.arg(int64(params.Limit)), c.args
}

const eventRangeQuery = `SELECT
	ifnull((SELECT min(position) FROM events), 0),
	ifnull((SELECT max(position) FROM events), 0)`

// EventRange implements journal.Store.
func (s *Store) EventRange(ctx context.Context) (oldest, newest uint64, err error) {
	err = s.read(ctx, "read the range of events", func(r *reader) error {
		return r.query(eventRangeQuery, nil, func(stmt *sqlite3.Stmt) error {
			oldest, newest = uint64(stmt.ColumnInt64(0)), uint64(stmt.ColumnInt64(1))
			return nil
		})
	})
	return oldest, newest, err
}
