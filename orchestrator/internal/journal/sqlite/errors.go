package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/ncruces/go-sqlite3"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// wrap adds to an error what was being done, and what to do next. An interrupt because ctx has ended becomes ctx's
// error.
func (s *Store) wrap(ctx context.Context, doing string, err error) error {
	if ended := ctx.Err(); ended != nil && errors.Is(err, sqlite3.INTERRUPT) {
		err = ended
	}
	return explain(doing+" in the store", s.path, err)
}

// explain adds to an error what was being done, its cause in terms of package journal, and what to do next.
func explain(doing, path string, err error) error {
	if err == nil {
		return nil
	}
	cause, advice := diagnose(err)
	if cause == nil && lacksSpace(err, func() (uint64, bool) { return freeBytes(filepath.Dir(path)) }) {
		cause, advice = diagnose(sqlite3.FULL)
	}
	switch {
	case cause == nil && advice == "":
		return fmt.Errorf("%s %s: %w", doing, path, err)
	case cause == nil:
		return fmt.Errorf("%s %s: %w; %s", doing, path, err, advice)
	default:
		return fmt.Errorf("%s %s: %w: %w; %s", doing, path, cause, err, advice)
	}
}

// leastFree is how much space SQLite needs at least. Its index of the write-ahead log grows by 32 KiB.
const leastFree = 64 << 10

// lacksSpace returns whether an I/O error came because the disk is full. Where SQLite makes a file larger, it may say
// no more than that it failed. Parameter free returns how much space is left on the disk, if that is known.
func lacksSpace(err error, free func() (bytes uint64, known bool)) bool {
	if !isAny(err, sqlite3.IOERR_WRITE, sqlite3.IOERR_TRUNCATE, sqlite3.IOERR_SHMOPEN, sqlite3.IOERR_SHMSIZE,
		sqlite3.IOERR_SHMMAP) {
		return false
	}
	bytes, known := free()
	return known && bytes < leastFree
}

// diagnose returns the cause of an error in terms of package journal, or nil, and what to do next, or "".
func diagnose(err error) (cause error, advice string) { //nolint:revive,staticcheck // The cause is a result.
	switch {
	case isAny(err, sqlite3.FULL, syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG):
		return journal.ErrFull, "free some space; nothing that was acknowledged is lost"
	case isAny(err, sqlite3.READONLY, syscall.EROFS, fs.ErrPermission):
		return journal.ErrReadOnly,
			"let this process write the file and its directory; nothing that was acknowledged is lost"
	case isAny(err, sqlite3.CORRUPT, sqlite3.NOTADB, sqlite3.IOERR_DATA, sqlite3.IOERR_CORRUPTFS):
		return journal.ErrCorrupt, "stop the orchestrator, copy the file and its -wal, and restore them from a backup"
	case isAny(err, sqlite3.BUSY, sqlite3.LOCKED):
		return nil, "another program writes to the file or has locked it; stop it"
	case errors.Is(err, sqlite3.IOERR):
		return nil, "check the disk; nothing that was acknowledged is lost"
	}
	return nil, ""
}

func isAny(err error, targets ...error) bool {
	return slices.ContainsFunc(targets, func(target error) bool { return errors.Is(err, target) })
}

// recoverPanic turns a panic of the SQLite engine into an ErrBroken: its connection is unusable. The engine panics when
// it runs out of memory.
func recoverPanic(err *error) {
	if cause := recover(); cause != nil {
		*err = fmt.Errorf("%w: %v", journal.ErrBroken, cause)
	}
}
