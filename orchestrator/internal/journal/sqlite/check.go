package sqlite

import (
	"context"
	"fmt"

	"github.com/ncruces/go-sqlite3"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// Check reads the whole file: that SQLite finds its tables and indexes sound, that every saga has all its turns, and that every
// turn has its saga. What it finds wrong is an ErrCorrupt. It takes seconds per gigabyte and one of the readers; writing goes on meanwhile,
// but the write-ahead log grows until it is done.
func (s *Store) Check(ctx context.Context) error {
	return s.read(ctx, "check everything", func(r *reader) error {
		for _, check := range []struct{ sql, wrong string }{
			{`SELECT integrity_check FROM pragma_integrity_check WHERE integrity_check <> 'ok' LIMIT 1`, "SQLite finds"},
			{`SELECT s.id FROM sagas s WHERE (SELECT count(*) = 0 OR min(position & 0xffffff) <> s.first_turn OR count(*) <> max(position & 0xffffff) - s.first_turn + 1 FROM turns
				WHERE position BETWEEN s.key << 24 AND (s.key << 24 | 0xffffff)) LIMIT 1`, "turns are missing of saga"},
			{`SELECT position >> 24 FROM turns WHERE position >> 24 NOT IN (SELECT key FROM sagas) LIMIT 1`, "there are turns of no saga, with the key"},
			{`SELECT id FROM sagas WHERE definition NOT IN (SELECT key FROM definitions) LIMIT 1`, "there is no definition of saga"},
			{`SELECT saga FROM labels WHERE saga NOT IN (SELECT key FROM sagas) LIMIT 1`, "there are labels of no saga, with the key"},
			{`SELECT saga FROM awaits WHERE saga NOT IN (SELECT key FROM sagas WHERE state < 4) LIMIT 1`, "there are awaits of no open saga, with the key"},
			{`SELECT position FROM events WHERE type NOT IN (SELECT key FROM event_types) LIMIT 1`, "there is no type of the event at position"},
		} {
			err := r.query(check.sql, nil, func(stmt *sqlite3.Stmt) error {
				return fmt.Errorf("%w: %s %s", journal.ErrCorrupt, check.wrong, stmt.ColumnText(0))
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}
