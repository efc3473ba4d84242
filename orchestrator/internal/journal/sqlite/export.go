package sqlite

import (
	"context"
	"fmt"

	"github.com/ncruces/go-sqlite3"
)

// Exported are the tables that Export reads, in their order, with the names of their columns.
var Exported = []struct {
	Table   string
	Columns string // separated by commas
}{
	{"meta", "name, value"},
	{"identity", "name, value"},
	{"definitions", "key, name"},
	{"event_types", "key, name"},
	{"sagas", "key, id, definition, state, create_time, update_time, end_time, due, labels, waiting, created, " +
		"first_turn, suspension, parent_scope, parent, parent_start, request_id, undoer, revision"},
	{"turns", "position, data, checksum, time"},
	{"labels", "saga, label, value"},
	{"events", "position, source, id, type, subject, time, store_time, data, publisher"},
	{"awaits", "saga, number, type, subject, after"},
	{"consumers", "name, position, filter, owner"},
	{"purged", "id, end_time"},
	{"participants", "service, proven, horizon"},
	{"past_events", "position, source, id, store_time, digest, publisher"},
	{"lost", "id, data"},
	{"scopes", "scope, epoch, position, store_id, horizon"},
}

// Export calls f with every row of every table of Exported, as they are at one moment, for a store of another kind. A
// value is an int64, a string, a []byte or nil. It belongs to f.
func (s *Store) Export(ctx context.Context, f func(table string, row []any) error) error {
	return s.read(ctx, "export", func(r *reader) error {
		for _, from := range Exported {
			err := r.query(`SELECT `+from.Columns+` FROM `+from.Table, nil, func(stmt *sqlite3.Stmt) error {
				row := make([]any, stmt.ColumnCount())
				for i := range row {
					switch stmt.ColumnType(i) {
					case sqlite3.INTEGER:
						row[i] = stmt.ColumnInt64(i)
					case sqlite3.TEXT:
						row[i] = stmt.ColumnText(i)
					case sqlite3.BLOB:
						row[i] = stmt.ColumnBlob(i, []byte{})
					}
				}
				return f(from.Table, row)
			})
			if err != nil {
				return fmt.Errorf("table %s: %w", from.Table, err)
			}
		}
		return nil
	})
}
