package postgres

import (
	"context"
	"sync"

	"github.com/jackc/pgx/v5"
)

// names are the numbers of names, which never change. They are cached. All methods may be called concurrently.
type names struct {
	mu   sync.RWMutex
	keys map[string]int32
}

// missing adds to a list the names among some that aren't cached.
func (n *names) known(name string) (key int32, known bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	key, known = n.keys[name]
	return key, known
}

// learn makes names known, and gives numbers to those that have none. It is a transaction of its own.
func (n *names) learn(ctx context.Context, d *Database, missing []string) error {
	stored := make([]string, len(missing))
	for i, name := range missing {
		stored[i] = encoded(name)
	}
	return d.write(ctx, "name a definition or a type of events", func(ctx context.Context, tx pgx.Tx) error {
		// Sorted, so that two transactions don't wait for each other.
		if _, err := tx.Exec(ctx, `INSERT INTO names (name) SELECT DISTINCT name FROM unnest($1::text[]) AS u (name)
			WHERE NOT EXISTS (SELECT 1 FROM names WHERE names.name = u.name)
			ORDER BY name ON CONFLICT DO NOTHING`, stored); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `SELECT key, name FROM names WHERE name = ANY ($1)`, stored)
		if err != nil {
			return err
		}
		var key int32
		var name string
		_, err = pgx.ForEachRow(rows, []any{&key, &name}, func() error {
			n.mu.Lock()
			defer n.mu.Unlock()
			if n.keys == nil {
				n.keys = make(map[string]int32)
			}
			n.keys[decoded(name)] = key
			return nil
		})
		return err
	})
}
