package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// OpenReadOnly opens the store at path for reading. It takes no lock and changes nothing that is stored: it works while an orchestrator has the
// file open, and sees what that one commits. What would write fails with ErrReadOnly; Epoch is that of the last opening for writing.
//
// The errors: fs.ErrNotExist when there is no such file; ErrVersion when another version wrote it, for an older file can't be brought up to
// date here; ErrCorrupt when it can't be read. A file that belongs to another program is refused. The directory must allow SQLite's shared memory file
// beside the store to be made. The context bounds only the opening.
func OpenReadOnly(ctx context.Context, path string) (*Store, error) {
	path, err := resolve(path)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open the store %s for reading: there is no such file; name the one that an orchestrator writes: %w", path, fs.ErrNotExist)
	}
	s := newStore(path, options{vfs: filesystemName, readOnly: true})
	if err := checkHeader(s.path); err != nil {
		return nil, err
	}
	s.readers = newReaders(s.path, s.options)
	if err := s.read(ctx, "begin to read", s.checkVersion); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// checkVersion refuses what another version wrote, and reads the epoch.
func (s *Store) checkVersion(r *reader) error {
	version, err := queryInt(r.conn, `PRAGMA user_version`)
	switch known := int64(len(migrations)); {
	case err != nil:
		return err
	case version > known:
		return fmt.Errorf("%w: its schema has version %d, this program knows %d; use the newer program", journal.ErrVersion, version, known)
	case version < known:
		return fmt.Errorf("%w: its schema has version %d, this program needs %d; start an orchestrator of this version on it, or on a copy, which brings it up to date",
			journal.ErrVersion, version, known)
	}
	epoch, err := queryInt(r.conn, `SELECT value FROM meta WHERE name = 'epoch'`)
	s.epoch = uint64(epoch)
	return err
}
