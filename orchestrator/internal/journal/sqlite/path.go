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

// maxPath is how long a path may be; SQLite's files add a suffix, and its driver stops at 1024 bytes.
const maxPath = 1000

// resolve returns the one name of the file, so that the lock holds whatever path it is opened by.
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
		return "", fmt.Errorf("open the store %s: its directory doesn't exist; create it or name another: %w", full, err)
	}
	if err != nil {
		return "", fmt.Errorf("open the store %s: %w", full, err)
	}
	full = filepath.Join(directory, filepath.Base(full))
	if target, err := filepath.EvalSymlinks(full); err == nil {
		full = target
	}
	if len(full) > maxPath {
		return "", fmt.Errorf("open the store %s: the path has %d bytes; %d are allowed", full, len(full), maxPath)
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

// Where a SQLite file's header says whose it is.
const (
	headerSize          = 100
	headerMagic         = "SQLite format 3\x00"
	headerSchemaCookie  = 40
	headerApplicationID = 68
)

// checkHeader refuses a file that SQLite couldn't read or that belongs to another program, before anything touches it.
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
		return fmt.Errorf("open the store %s: %w: it ends after %d bytes; restore it from a copy, or name another file", path, journal.ErrCorrupt, n)
	case err != nil:
		return fmt.Errorf("open the store %s: %w", path, err)
	case !bytes.HasPrefix(header, []byte(headerMagic)):
		return fmt.Errorf("open the store %s: %w: it is not a SQLite file; restore it from a copy, or name another file", path, journal.ErrCorrupt)
	}
	owner := int32(binary.BigEndian.Uint32(header[headerApplicationID:]))
	empty := binary.BigEndian.Uint32(header[headerSchemaCookie:]) == 0
	if owner != applicationID && (owner != 0 || !empty) {
		return fmt.Errorf("open the store %s: the file belongs to another program (application id %#x, not %#x); name another file", path, uint32(owner), uint32(applicationID))
	}
	return nil
}

// syncDirectory makes the file's name durable; SQLite itself cares only for its log's.
func syncDirectory(path string) error {
	directory, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer directory.Close()
	if err := directory.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrInvalid) && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}
