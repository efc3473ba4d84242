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

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

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
	unfinished := to + ".unfinished"
	if err := os.Remove(unfinished); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, explain("back the store "+source.path+" up to", to, err)
	}
	defer func() { _ = os.Remove(unfinished) }() // it was renamed, or is worthless
	taken = time.Now().UTC().Truncate(time.Microsecond)
	if err := source.copyTo(ctx, unfinished); err != nil {
		return time.Time{}, err
	}
	if err := markBackup(ctx, unfinished, taken); err != nil {
		return time.Time{}, explain("back the store "+source.path+" up to", to, err)
	}
	if err := os.Link(unfinished, to); err != nil { // unlike a renaming, it overwrites nothing
		return time.Time{}, explain("back the store "+source.path+" up to", to, err)
	}
	return taken, syncDirectory(to)
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

// markBackup marks a copy as a backup, and makes it durable.
func markBackup(ctx context.Context, path string, taken time.Time) (err error) {
	defer recoverPanic(&err)
	conn, err := connect(ctx, path, options{vfs: filesystemName}, "journal_mode = DELETE", "synchronous = EXTRA")
	if err != nil {
		return err
	}
	if err := writeText(conn, backupTimeRow, taken.Format(time.RFC3339Nano)); err != nil {
		return errors.Join(err, conn.Close())
	}
	if err := conn.Close(); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
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
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return restored, fmt.Errorf("restore the store %s: %w; copy the backup there first", path, fs.ErrNotExist)
	}
	lock, err := acquireLock(path)
	if err != nil {
		return restored, err
	}
	defer func() { err = errors.Join(err, lock.release()) }()
	if err := checkHeader(path); err != nil {
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
	return restored, explain("restore the store", path, err)
}

func (w *writer) restore(params journal.RestoreParams) (restored journal.Restored, err error) {
	identity, err := readIdentity(w.conn)
	if err != nil {
		return restored, err
	}
	now := time.Now()
	if params.Now != nil {
		now = params.Now()
	}
	if restored, err = w.restoredSince(identity, params, now); err != nil {
		return restored, err
	}
	if params.EpochFromClock {
		clock := journal.ClockEpoch(now)
		if identity.Epoch <= clock {
			return restored, fmt.Errorf("%w: its epoch isn't ahead of this machine's clock, so it needn't be set back",
				journal.ErrInvalid)
		}
		if err := execute(w.conn, `UPDATE meta SET value = ? WHERE name = 'epoch'`, signed(clock)); err != nil {
			return restored, err
		}
	}
	text, err := json.Marshal(restored)
	if err != nil {
		return restored, err
	}
	if err := writeText(w.conn, restoredRow, string(text)); err != nil {
		return restored, err
	}
	return restored, execute(w.conn, `DELETE FROM identity WHERE name IN (?, ?)`, backupTimeRow, replacedRow)
}

// restoredSince returns since when the store doesn't know what happened.
func (w *writer) restoredSince(
	identity journal.Identity, params journal.RestoreParams, now time.Time,
) (restored journal.Restored, err error) {
	restored = journal.Restored{
		RestoreTime: now.UTC().Truncate(time.Microsecond), Trusted: slices.Sorted(slices.Values(params.Trusted)),
	}
	text, marked, err := readText(w.conn, backupTimeRow)
	if err != nil {
		return restored, err
	}
	times := []time.Time{params.Since}
	if marked {
		taken, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return restored, fmt.Errorf("%w: when it was backed up: %w", journal.ErrCorrupt, err)
		}
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
