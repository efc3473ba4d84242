package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// OpenReadOnly opens the store at path for reading. It takes no lock and changes nothing that is stored. It works
// while an orchestrator has the file open, and reads what that commits. Methods that write return ErrReadOnly. The
// context limits only the opening.
//
// It returns fs.ErrNotExist if there is no such file, ErrVersion if another version wrote it, and ErrCorrupt if it
// can't be read. It returns an error for a file that belongs to another program. SQLite must be able to create its
// shared memory file next to the store.
func OpenReadOnly(ctx context.Context, path string) (*Store, error) {
	path, err := resolve(path)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open the store %s for reading: %w; name the file of an orchestrator",
			path, fs.ErrNotExist)
	}
	s := newStore(path, options{vfs: filesystemName, readOnly: true})
	if err := checkHeader(s.path); err != nil {
		return nil, err
	}
	s.readers = newReaders(s.path, s.options)
	if err := s.read(ctx, "open", s.checkVersion); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// checkVersion returns ErrVersion for a file of another version, and reads the epoch.
func (s *Store) checkVersion(r *reader) error {
	version, err := queryInt(r.conn, `PRAGMA user_version`)
	switch known := int64(len(migrations)); {
	case err != nil:
		return err
	case version > known:
		return fmt.Errorf("%w: its schema has version %d, this program supports %d; use the newer program",
			journal.ErrVersion, version, known)
	case version < known:
		return fmt.Errorf("%w: its schema has version %d, this program needs %d; "+
			"start an orchestrator of this version on the file, or on a copy, to migrate it",
			journal.ErrVersion, version, known)
	}
	s.identity, err = readIdentity(r.conn)
	return err
}
