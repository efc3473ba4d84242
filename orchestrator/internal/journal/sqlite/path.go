package sqlite

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// maxPath is the maximum length of a path. SQLite adds suffixes to it, and its driver has a limit of 1024 bytes.
const maxPath = 1000

// resolve returns the canonical path of the file, so that the lock works for all its paths.
func resolve(path string) (string, error) {
	if path == "" {
		return "", errors.New("open a store: the path is empty; name a file")
	}
	full, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("open the store %s: %w", path, err)
	}
	directory, err := filepath.EvalSymlinks(filepath.Dir(full))
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("open the store %s: its directory doesn't exist; create it, or name another: %w",
			full, err)
	}
	if err != nil {
		return "", fmt.Errorf("open the store %s: %w", full, err)
	}
	full = filepath.Join(directory, filepath.Base(full))
	if target, err := filepath.EvalSymlinks(full); err == nil {
		full = target
	}
	if len(full) > maxPath {
		return "", fmt.Errorf("open the store %s: the path has %d bytes: the limit is %d", full, len(full), maxPath)
	}
	info, err := os.Stat(full)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return full, nil
	case err != nil:
		return "", fmt.Errorf("open the store %s: %w", full, err)
	case info.IsDir():
		return "", fmt.Errorf("open the store %s: this is a directory; name a file in it", full)
	case !info.Mode().IsRegular():
		return "", fmt.Errorf("open the store %s: this is not a regular file; name another", full)
	}
	return full, nil
}

// Positions in the header of a SQLite file.
const (
	headerSize          = 100
	headerFormat        = 18 // how the file is written
	rollbackFormat      = 1  // without a write-ahead log
	headerMagic         = "SQLite format 3\x00"
	headerSchemaCookie  = 40
	headerApplicationID = 68
)

// checkHeader returns an error for a file that SQLite can't read or that belongs to another program. It doesn't
// change the file.
func checkHeader(path string) error {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open the store %s: %w", path, err)
	}
	defer file.Close()
	header := make([]byte, headerSize)
	n, err := io.ReadFull(file, header)
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("open the store %s: %w: it ends after %d bytes; restore it from a copy, or name another file",
			path, journal.ErrCorrupt, n)
	case err != nil:
		return fmt.Errorf("open the store %s: %w", path, err)
	case !bytes.HasPrefix(header, []byte(headerMagic)):
		return fmt.Errorf("open the store %s: %w: it isn't a SQLite file; restore it from a copy, or name another file",
			path, journal.ErrCorrupt)
	}
	if header[headerFormat] == rollbackFormat {
		// SQLite would put the pages of another store's log into this file.
		if left, err := os.Stat(path + "-wal"); err == nil && left.Size() > 0 {
			return fmt.Errorf("open the store %s: %w: %s-wal belongs to another file, which was here before; remove it",
				path, journal.ErrInvalid, path)
		}
	}
	owner := int32(binary.BigEndian.Uint32(header[headerApplicationID:]))
	empty := binary.BigEndian.Uint32(header[headerSchemaCookie:]) == 0
	if owner != applicationID && (owner != 0 || !empty) {
		return fmt.Errorf("open the store %s: it belongs to another program (application id %#x, not %#x); "+
			"name another file", path, uint32(owner), uint32(applicationID))
	}
	return nil
}

// syncDirectory makes the file's name durable. SQLite itself does so only for its log.
func syncDirectory(path string) error {
	directory, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer directory.Close()
	err = directory.Sync()
	if isAny(err, errors.ErrUnsupported, fs.ErrInvalid, fs.ErrPermission) {
		return nil // the operating system can't sync directories
	}
	return err
}
