package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/ncruces/go-sqlite3"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// errBroken says that the SQLite engine itself gave up, so that its connection can't be used again.
var errBroken = errors.New("the SQLite engine failed")

// fail says what was being done when err came up. An error that a context's end caused becomes the context's.
func (s *Store) fail(ctx context.Context, doing string, err error) error {
	if ended := ctx.Err(); ended != nil && errors.Is(err, sqlite3.INTERRUPT) {
		err = ended
	}
	return failure(doing+" in the store", s.path, err)
}

// failure names a cause and the way out, as far as the operating system and SQLite tell them.
func failure(doing, path string, err error) error {
	if err == nil {
		return nil
	}
	cause, advice := diagnose(err)
	switch {
	case cause == nil && advice == "":
		return fmt.Errorf("%s %s: %w", doing, path, err)
	case cause == nil:
		return fmt.Errorf("%s %s: %w; %s", doing, path, err, advice)
	default:
		return fmt.Errorf("%s %s: %w: %w; %s", doing, path, cause, err, advice)
	}
}

func diagnose(err error) (cause error, advice string) { //nolint:revive,staticcheck // the cause is what it finds, not how it went
	switch {
	case errors.Is(err, sqlite3.FULL), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		return journal.ErrFull, "free some space; nothing that was acknowledged is lost"
	case errors.Is(err, sqlite3.READONLY), errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		return journal.ErrReadOnly, "let this process write the file and its directory; nothing that was acknowledged is lost"
	case errors.Is(err, sqlite3.CORRUPT), errors.Is(err, sqlite3.NOTADB), errors.Is(err, sqlite3.IOERR_DATA), errors.Is(err, sqlite3.IOERR_CORRUPTFS):
		return journal.ErrCorrupt, "stop the orchestrator, keep a copy of the file and its -wal, and restore it from a backup"
	case errors.Is(err, sqlite3.BUSY), errors.Is(err, sqlite3.LOCKED):
		return nil, "another program is writing to the file or holds it locked; end it"
	case errors.Is(err, sqlite3.IOERR):
		return nil, "look at the disk; nothing that was acknowledged is lost"
	}
	return nil, ""
}

// rescue turns a panic of the SQLite engine, which runs out of its memory that way, into an error.
func rescue(err *error) {
	if cause := recover(); cause != nil {
		*err = fmt.Errorf("%w: %v", errBroken, cause)
	}
}
