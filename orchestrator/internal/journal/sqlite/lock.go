package sqlite

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// errHeld means that the lock file is locked.
var errHeld = errors.New("held")

// fileLock prevents other processes from opening the store. The operating system releases it when the process ends,
// even after a crash. The file is never deleted: otherwise two processes could lock two files with the same name. In
// case somebody deletes it, the database file is locked, too.
type fileLock struct {
	file     *os.File
	database *os.File // locked, or nil before lockDatabase
}

// acquireLock locks the file next to the store and writes this process's id to it, for the error of other processes.
func acquireLock(path string) (*fileLock, error) {
	name := path + "-lock"
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, explain("open the store "+path+" and lock", name, err)
	}
	if err := lockFile(file); err != nil {
		defer file.Close()
		if errors.Is(err, errHeld) {
			return nil, fmt.Errorf("open the store %s: %w: %s; stop it, or name another file",
				path, journal.ErrLocked, holder(file))
		}
		return nil, explain("open the store "+path+" and lock", name, err)
	}
	lock := &fileLock{file: file}
	if err := lock.writePID(); err != nil {
		return nil, errors.Join(explain("open the store "+path+" and write", name, err), lock.release())
	}
	return lock, nil
}

// lockDatabase locks the database file, if it exists, so that it is locked without the lock file, too. It locks a byte
// that SQLite doesn't use, so others can still read.
func (l *fileLock) lockDatabase(path string) error {
	if l.database != nil {
		return nil
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return explain("open the store", path, err)
	}
	if err := lockByte(file); err != nil {
		_ = file.Close() // err is more important
		if errors.Is(err, errHeld) {
			return fmt.Errorf("open the store %s: %w: it is a process with an unknown id, because %s-lock was deleted "+
				"while it ran; stop it, or name another file", path, journal.ErrLocked, path)
		}
		return explain("open the store and lock", path, err)
	}
	l.database = file
	return nil
}

func (l *fileLock) writePID() error {
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	_, err := l.file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

func (l *fileLock) release() error {
	// Closing the files releases the locks.
	var err error
	if l.database != nil {
		err = l.database.Close()
	}
	return errors.Join(err, l.file.Close())
}

// holder returns the process that holds the lock, in words.
func holder(file *os.File) string {
	text, err := io.ReadAll(io.NewSectionReader(file, 0, 32))
	pid, parseErr := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || parseErr != nil {
		return "it is a process with an unknown id"
	}
	if pid == os.Getpid() {
		return "it is this process, " + strconv.Itoa(pid)
	}
	return "it is process " + strconv.Itoa(pid)
}
