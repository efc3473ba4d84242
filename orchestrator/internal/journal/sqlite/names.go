package sqlite

import (
	"errors"
	"fmt"

	"github.com/ncruces/go-sqlite3"
)

// maxNames is the maximum number of cached names. There are rarely more than a few hundred.
const maxNames = 1 << 14

// names maps long, frequent names to short keys: those of definitions, or of event types.
type names struct {
	find, insert *sqlite3.Stmt
	keys         map[string]int64
}

// key returns the key of a name. It stores the name if it is new.
func (n *names) key(conn *sqlite3.Conn, name string) (int64, error) {
	if key, known := n.keys[name]; known {
		return key, nil
	}
	if err := n.find.BindText(1, name); err != nil {
		return 0, fmt.Errorf("find the name %s: %w", name, err)
	}
	found := n.find.Step()
	key := n.find.ColumnInt64(0)
	if err := errors.Join(n.find.Err(), n.find.Reset()); err != nil {
		return 0, fmt.Errorf("find the name %s: %w", name, err)
	}
	if !found {
		if err := run(n.insert, name); err != nil {
			return 0, fmt.Errorf("add the name %s: %w", name, err)
		}
		key = conn.LastInsertRowID()
	}
	if len(n.keys) >= maxNames {
		clear(n.keys)
	}
	n.keys[name] = key
	return key, nil
}
