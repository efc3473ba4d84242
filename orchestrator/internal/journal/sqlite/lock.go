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
//
// The file says which process has the store open, and which store was last open. So a database file that was emptied or
// deleted isn't taken for a new store.
type fileLock struct {
	file    *os.File
	storeID string // of the store that was last open, creating, or empty if it isn't known

	database *os.File // locked, or nil before lockDatabase
}

// creating is written to the lock file instead of an id before the database file is created.
const creating = "new"

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
	_, lock.storeID = lock.read()
	if err := lock.write(); err != nil {
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

// checkNew returns an ErrGone if the database file is missing or empty, unless a new store begins there.
func (l *fileLock) checkNew(path string) error {
	info, err := os.Stat(path)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing || err == nil && info.Size() > 0 {
		return nil // opening it says more
	}
	what := "the file is empty"
	if missing {
		what = "there is no such file"
	}
	if left, err := os.Stat(path + "-wal"); err == nil && left.Size() > 0 {
		return fmt.Errorf("open the store %s: %w: %s, but %s-wal holds what was written last; put the file back, or "+
			"restore it from a backup and remove %s-wal", path, journal.ErrGone, what, path, path)
	}
	switch {
	case l.storeID == creating:
		return nil // the process ended while it created the file
	case l.storeID != "":
		return fmt.Errorf("open the store %s: %w: %s, but it was the store %s before; restore it from a backup, or "+
			"remove it and %s-lock to begin with a new store", path, journal.ErrGone, what, l.storeID, path)
	case !missing:
		return fmt.Errorf("open the store %s: %w: %s, which a store never is; restore it from a backup, or remove it "+
			"to begin with a new store", path, journal.ErrGone, what)
	}
	return explain("open the store "+path+" and write", path+"-lock", l.note(creating))
}

// note writes down which store is open. It is durable when note returns nil.
func (l *fileLock) note(storeID string) error {
	if l.storeID == storeID {
		return nil
	}
	l.storeID = storeID
	return errors.Join(l.write(), l.file.Sync())
}

// lockSize is the size of the lock file's text. A mark follows it.
const lockSize = 64

// write overwrites the text in one piece: the id of the process, and of the store.
func (l *fileLock) write() error {
	_, err := l.file.WriteAt(fmt.Appendf(nil, "%-20d\n%-42s\n", os.Getpid(), l.storeID), 0)
	return err
}

// read returns what the file says. Unknown texts are empty.
func (l *fileLock) read() (pid, storeID string) {
	text, err := io.ReadAll(io.NewSectionReader(l.file, 0, lockSize))
	if err != nil {
		return "", ""
	}
	pid, storeID, _ = strings.Cut(string(text), "\n")
	return strings.TrimSpace(pid), strings.TrimSpace(storeID)
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
	text, _ := (&fileLock{file: file}).read()
	pid, err := strconv.Atoi(text)
	if err != nil {
		return "it is a process with an unknown id"
	}
	if pid == os.Getpid() {
		return "it is this process, " + strconv.Itoa(pid)
	}
	return "it is process " + strconv.Itoa(pid)
}
