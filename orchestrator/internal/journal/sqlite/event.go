package sqlite

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/ncruces/go-sqlite3"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// eventColumns are what scanEvent reads.
const eventColumns = `e.position, e.source, e.id, (SELECT name FROM event_types WHERE event_types.key = e.type), e.subject, e.time, e.store_time, e.data`

func scanEvent(stmt *sqlite3.Stmt) *journal.Event {
	return &journal.Event{
		Position: uint64(stmt.ColumnInt64(0)), Source: stmt.ColumnText(1), ID: stmt.ColumnText(2), Type: stmt.ColumnText(3),
		Subject: stmt.ColumnText(4), Time: columnTime(stmt, 5), StoreTime: columnTime(stmt, 6), Data: stmt.ColumnBlob(7, nil),
	}
}

// nextEventQuery finds the earliest event of one key behind a position and behind the creation of a saga.
const nextEventQuery = `SELECT position FROM events WHERE subject = ?1 AND type = (SELECT key FROM event_types WHERE name = ?2)
	AND position > max(?3, ?4) ORDER BY position LIMIT 1`

// NextEvent returns the earliest event that one of the awaits is for.
func (s *Store) NextEvent(ctx context.Context, saga string, awaits []journal.Await) (event *journal.Event, index int, err error) {
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
			err := r.query(nextEventQuery, []any{await.Subject, await.Type, signed(await.After), created}, func(stmt *sqlite3.Stmt) error {
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
		return r.query(`SELECT `+eventColumns+` FROM events e WHERE e.position = ?`, []any{earliest}, func(stmt *sqlite3.Stmt) error {
			event = scanEvent(stmt)
			return nil
		})
	})
	return event, index, err
}

// maxMerged is how many types a page of events merges walks along an index for; with more it walks along all events.
const maxMerged = 32

// Events returns a page of events.
func (s *Store) Events(ctx context.Context, params journal.EventsParams) ([]*journal.Event, error) {
	var events []*journal.Event
	err := s.read(ctx, "read events", func(r *reader) error {
		if err := journal.ValidateLimit(params.Limit); err != nil {
			return err
		}
		if params.Subject != "" && len(params.Types) == 0 {
			// The index has the events of a subject in order only within one type. Without naming the types, all events of the subject are
			// read and sorted for each page.
			err := r.query(`SELECT name FROM event_types LIMIT ?`, []any{int64(maxMerged + 1)}, func(stmt *sqlite3.Stmt) error {
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
		return r.query(sql, args, func(stmt *sqlite3.Stmt) error {
			events = append(events, scanEvent(stmt))
			return nil
		})
	})
	return events, err
}

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
		selects = []string{rows + ` AND +e.type IN (SELECT key FROM event_types WHERE name IN (` + strings.Join(types, ", ") + `))`}
	}
	if len(selects) == 0 {
		selects = []string{rows}
	}
	return strings.Join(selects, ` UNION ALL `) + ` ORDER BY 1 LIMIT ` + c.arg(int64(params.Limit)), c.args
}

// EventRange returns the positions of the oldest and the newest event.
func (s *Store) EventRange(ctx context.Context) (oldest, newest uint64, err error) {
	err = s.read(ctx, "read the range of events", func(r *reader) error {
		return r.query(`SELECT ifnull((SELECT min(position) FROM events), 0), ifnull((SELECT max(position) FROM events), 0)`, nil, func(stmt *sqlite3.Stmt) error {
			oldest, newest = uint64(stmt.ColumnInt64(0)), uint64(stmt.ColumnInt64(1))
			return nil
		})
	})
	return oldest, newest, err
}
