package sqlite

import (
	"context"
	"fmt"

	"github.com/ncruces/go-sqlite3"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// check reads the whole file and returns an ErrCorrupt for damage that opening doesn't look for.
func (s *Store) check(ctx context.Context) error {
	return s.read(ctx, "check the store", func(r *reader) error {
		for _, check := range []struct{ sql, wrong string }{
			{`SELECT integrity_check FROM pragma_integrity_check WHERE integrity_check <> 'ok' LIMIT 1`,
				"SQLite finds"},
			{`SELECT s.id FROM sagas s WHERE (SELECT count(*) = 0 OR min(position & 0xffffff) <> s.first_turn
				OR count(*) <> max(position & 0xffffff) - s.first_turn + 1
				FROM turns WHERE position BETWEEN s.key << 24 AND (s.key << 24 | 0xffffff)) LIMIT 1`,
				"turns are missing of saga"},
			{`SELECT position >> 24 FROM turns WHERE position >> 24 NOT IN (SELECT key FROM sagas) LIMIT 1`,
				"turns exist, but not the saga with the key"},
			{`SELECT id FROM sagas WHERE definition NOT IN (SELECT key FROM definitions) LIMIT 1`,
				"the definition is missing of saga"},
			{`SELECT saga FROM labels WHERE saga NOT IN (SELECT key FROM sagas) LIMIT 1`,
				"labels exist, but not the saga with the key"},
			{`SELECT saga FROM awaits WHERE saga NOT IN (SELECT key FROM sagas WHERE state < 4) LIMIT 1`,
				"awaits exist, but no open saga with the key"},
			{`SELECT position FROM events WHERE type NOT IN (SELECT key FROM event_types) LIMIT 1`,
				"the type is missing of the event at position"},
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
