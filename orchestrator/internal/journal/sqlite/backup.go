package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// unfinishedSuffix ends the name of the file that a backup is written to before it gets its name.
const unfinishedSuffix = ".unfinished"

// Backup copies the store at path to a new file. It may be called while an orchestrator has the store open: the copy is
// the state of one moment. The copy is marked as a backup with the time before that moment, and can't be opened for
// writing before it is restored. Backup returns that time. It never overwrites a file.
//
// The errors are those of OpenReadOnly, fs.ErrExist if there is such a file, and ErrFull and ErrReadOnly if the copy
// can't be written.
func Backup(ctx context.Context, path, to string) (taken time.Time, err error) {
	to, err = resolve(to)
	if err != nil {
		return time.Time{}, err
	}
	if _, err := os.Stat(to); err == nil {
		return time.Time{}, fmt.Errorf("back the store %s up to %s: %w; name a new file", path, to, fs.ErrExist)
	}
	source, err := OpenReadOnly(ctx, path)
	if err != nil {
		return time.Time{}, err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	unfinished := to + unfinishedSuffix
	if err := os.Remove(unfinished); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, explain("back the store "+source.path+" up to", to, err)
	}
	defer func() { _ = os.Remove(unfinished) }() // it was renamed, or is worthless
	taken = time.Now().UTC().Truncate(time.Microsecond)
	if err := source.copyTo(ctx, unfinished); err != nil {
		return time.Time{}, err
	}
	if taken, err = markBackup(ctx, unfinished, taken); err != nil {
		return time.Time{}, explain("back the store "+source.path+" up to", to, err)
	}
	if err := os.Link(unfinished, to); err != nil { // unlike a renaming, it overwrites nothing
		return time.Time{}, explain("back the store "+source.path+" up to", to, err)
	}
	return taken, syncDirectory(to)
}

// BackupProgress returns how many bytes of a backup are written that Backup is making, and about how many it will have.
func BackupProgress(path, to string) (written, whole int64) {
	return fileSize(to + unfinishedSuffix), fileSize(path)
}

// fileSize returns the size of a file, or 0 if it can't be read.
func fileSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// copyTo writes a copy of the store to a new file.
func (s *Store) copyTo(ctx context.Context, path string) (err error) {
	defer recoverPanic(&err)
	conn, err := connect(ctx, s.path, s.options)
	if err != nil {
		return s.wrap(ctx, "back up", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	conn.SetInterrupt(ctx)
	defer conn.SetInterrupt(context.Background())
	return s.wrap(ctx, "back up", execute(conn, `VACUUM INTO ?`, path))
}

// markBackup marks a copy as a backup, and makes it durable. The copy of a backup keeps its time, which it returns.
func markBackup(ctx context.Context, path string, taken time.Time) (since time.Time, err error) {
	defer recoverPanic(&err)
	conn, err := connect(ctx, path, options{vfs: filesystemName}, "journal_mode = DELETE", "synchronous = EXTRA")
	if err != nil {
		return since, err
	}
	if since, err = writeMark(conn, taken); err != nil {
		return since, errors.Join(err, conn.Close())
	}
	if err := conn.Close(); err != nil {
		return since, err
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return since, err
	}
	return since, errors.Join(file.Sync(), file.Close())
}

func writeMark(conn *sqlite3.Conn, taken time.Time) (since time.Time, err error) {
	before, marked, err := readMark(conn)
	if err != nil || marked {
		return before, err
	}
	return taken, writeText(conn, backupTimeRow, taken.Format(time.RFC3339Nano))
}

// readMark returns the time of a backup.
func readMark(conn *sqlite3.Conn) (taken time.Time, marked bool, err error) {
	text, marked, err := readText(conn, backupTimeRow)
	if err != nil || !marked {
		return taken, false, err
	}
	if taken, err = time.Parse(time.RFC3339Nano, text); err != nil {
		return taken, false, fmt.Errorf("%w: when it was backed up: %w", journal.ErrCorrupt, err)
	}
	return taken, true, nil
}

// Restore makes a store that was restored from a backup, or that was replaced, one that may be opened again. It must
// not be open. The orchestrator that opens it next compares it with its participants before it continues.
//
// The errors are those of Open, fs.ErrNotExist if there is no such file, and ErrInvalid if the parameters don't fit.
func Restore(ctx context.Context, path string, params journal.RestoreParams) (restored journal.Restored, err error) {
	path, err = resolve(path)
	if err != nil {
		return restored, err
	}
	switch file, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return restored, fmt.Errorf("restore the store %s: %w; copy the backup there first", path, fs.ErrNotExist)
	case err == nil && file.Size() == 0:
		return restored, fmt.Errorf("restore the store %s: %w: the file is empty; copy the backup there first", path,
			journal.ErrInvalid)
	}
	lock, err := acquireLock(path)
	if err != nil {
		return restored, err
	}
	defer func() { err = errors.Join(err, lock.release()) }()
	if err := checkHeader(path); err != nil {
		return restored, err
	}
	if err := makePrivate(path); err != nil {
		return restored, err
	}
	if err := lock.lockDatabase(path); err != nil {
		return restored, err
	}
	w, err := openWriter(ctx, path, options{vfs: filesystemName})
	if err != nil {
		return restored, explain("restore the store", path, err)
	}
	defer func() { err = errors.Join(err, w.close()) }()
	err = w.transaction(func() error {
		restored, err = w.restore(params)
		return err
	})
	if err == nil {
		err = newMark(lock.file).clear() // it may lack what was acknowledged, since it will be compared
	}
	return restored, explain("restore the store", path, err)
}

func (w *writer) restore(params journal.RestoreParams) (restored journal.Restored, err error) {
	identity, err := readIdentity(w.conn)
	if err != nil {
		return restored, err
	}
	if identity.StoreID != "" && identity.Name != params.Name {
		return restored, fmt.Errorf("%w: it belongs to the one named %q, and this one is named %q", journal.ErrName,
			identity.Name, params.Name)
	}
	now := time.Now()
	if params.Now != nil {
		now = params.Now()
	}
	if restored, err = w.restoredSince(identity, params, now); err != nil {
		return restored, err
	}
	if err := w.moveEpoch(identity, params, now); err != nil {
		return restored, err
	}
	text, err := json.Marshal(restored)
	if err != nil {
		return restored, err
	}
	if err := writeText(w.conn, restoredRow, string(text)); err != nil {
		return restored, err
	}
	return restored, execute(w.conn, `DELETE FROM identity WHERE name IN (?, ?, ?)`, backupTimeRow, replacedRow,
		heardEpochRow)
}

// moveEpoch sets the epoch back to the clock, or above that of another store that participants have heard.
func (w *writer) moveEpoch(identity journal.Identity, params journal.RestoreParams, now time.Time) error {
	heard, err := readHeardEpoch(w.conn)
	if err != nil {
		return err
	}
	epoch := max(identity.Epoch, heard)
	if params.EpochFromClock {
		if epoch = journal.ClockEpoch(now); identity.Epoch <= journal.ClockEpoch(now.Add(journal.MaxEpochAhead)) {
			return fmt.Errorf("%w: its epoch isn't more than a day ahead of this machine's clock, so participants "+
				"believe "+
				"it: restore the store without setting it back", journal.ErrInvalid)
		}
	}
	return execute(w.conn, `UPDATE meta SET value = ? WHERE name = 'epoch'`, signed(epoch))
}

// restoredSince returns since when the store doesn't know what happened.
func (w *writer) restoredSince(
	identity journal.Identity, params journal.RestoreParams, now time.Time,
) (restored journal.Restored, err error) {
	restored = journal.Restored{
		RestoreTime: now.UTC().Truncate(time.Microsecond), Trusted: slices.Sorted(slices.Values(params.Trusted)),
	}
	if params.Since.After(now) {
		return restored, fmt.Errorf("%w: it can't lack what happened since %s, which is in the future",
			journal.ErrInvalid,
			params.Since.UTC().Format(time.RFC3339))
	}
	taken, marked, err := readMark(w.conn)
	if err != nil {
		return restored, err
	}
	times := []time.Time{params.Since}
	if marked {
		times = append(times, taken)
	}
	if identity.Restored != nil {
		times = append(times, identity.Restored.BackupTime) // it was restored before, and not compared since
	}
	for _, t := range times {
		if !t.IsZero() && (restored.BackupTime.IsZero() || t.Before(restored.BackupTime)) {
			restored.BackupTime = t.UTC()
		}
	}
	if !restored.BackupTime.IsZero() {
		return restored, nil
	}
	newest, err := queryInt(w.conn, `SELECT ifnull(max(update_time), 0) FROM sagas`)
	if err != nil {
		return restored, err
	}
	return restored, fmt.Errorf("%w: it has no mark of a backup; say since when it may lack what happened, such as "+
		"--since %s, when its newest saga last changed", journal.ErrInvalid,
		time.UnixMicro(newest).UTC().Format(time.RFC3339))
}
