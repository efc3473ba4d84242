package sqlite

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// run runs a statement that returns no rows.
func run(stmt *sqlite3.Stmt, args ...any) error {
	if err := bind(stmt, args...); err != nil {
		return err
	}
	return stmt.Exec()
}

// optional is a text that is NULL if it is empty.
type optional string

// bind sets the arguments of a statement: an int64, a string, an optional, a []byte or a time.Time each.
func bind(stmt *sqlite3.Stmt, args ...any) (err error) {
	for i, arg := range args {
		switch v := arg.(type) {
		case int64:
			err = stmt.BindInt64(i+1, v)
		case string:
			err = stmt.BindText(i+1, v)
		case optional:
			err = bindOptional(stmt, i+1, string(v))
		case []byte:
			err = bindData(stmt, i+1, v)
		case time.Time:
			err = bindTime(stmt, i+1, v)
		default:
			err = fmt.Errorf("unsupported type %T", arg)
		}
		if err != nil {
			return fmt.Errorf("bind argument %d: %w", i+1, err)
		}
	}
	return nil
}

func bindTime(stmt *sqlite3.Stmt, param int, t time.Time) error {
	if t.IsZero() {
		return stmt.BindNull(param)
	}
	return stmt.BindInt64(param, t.UnixMicro())
}

// bindData binds a blob. Empty data becomes an empty blob, not NULL.
func bindData(stmt *sqlite3.Stmt, param int, data []byte) error {
	if len(data) == 0 {
		return stmt.BindZeroBlob(param, 0)
	}
	return stmt.BindBlob(param, data)
}

// bindOptional binds a text. An empty one becomes NULL, which takes no room.
func bindOptional(stmt *sqlite3.Stmt, param int, text string) error {
	if text == "" {
		return stmt.BindNull(param)
	}
	return stmt.BindText(param, text)
}

// bindUndoer binds who may compensate a saga after it has succeeded, as the column undoer holds it.
func bindUndoer(stmt *sqlite3.Stmt, param int, row *journal.Row) error {
	if row.Parent.Compensates {
		return stmt.BindText(param, "")
	}
	return bindOptional(stmt, param, row.LocalParent)
}

// bindParent binds the scope, the saga and the start of a parent to three parameters.
func bindParent(stmt *sqlite3.Stmt, first int, parent journal.Parent) error {
	if parent.Saga == "" {
		return errors.Join(stmt.BindNull(first), stmt.BindNull(first+1), stmt.BindNull(first+2))
	}
	return errors.Join(stmt.BindText(first, parent.Scope), stmt.BindText(first+1, parent.Saga),
		bindTime(stmt, first+2, parent.Start))
}

func bindLabels(stmt *sqlite3.Stmt, param int, labels map[string]string) error {
	if len(labels) == 0 {
		return stmt.BindNull(param)
	}
	data, err := json.Marshal(labels)
	if err != nil {
		return fmt.Errorf("serialize labels: %w", err)
	}
	return stmt.BindText(param, string(data))
}
