package sqlite

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// errHeld says that another opening of the lock file holds the lock.
var errHeld = errors.New("held")

// fileLock keeps other processes from opening the store. The operating system drops it when the process ends, however it
// ends. The file stays: removing it would let two processes lock two files of the same name.
type fileLock struct {
	file *os.File
}

// acquireLock locks the file beside the store and writes this process's id into it, for whoever is held off.
func acquireLock(path string) (*fileLock, error) {
	name := path + "-lock"
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, failure("open the store "+path+" and lock", name, err)
	}
	if err := lockFile(file); err != nil {
		defer file.Close()
		if errors.Is(err, errHeld) {
			return nil, fmt.Errorf("open the store %s: %w: %s; stop it first, or name another file", path, journal.ErrLocked, holder(file))
		}
		return nil, failure("open the store "+path+" and lock", name, err)
	}
	lock := &fileLock{file: file}
	if err := lock.sign(); err != nil {
		return nil, errors.Join(failure("open the store "+path+" and write", name, err), lock.release())
	}
	return lock, nil
}

func (l *fileLock) sign() error {
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	_, err := l.file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

func (l *fileLock) release() error {
	// Closing the file drops the lock.
	return l.file.Close()
}

func holder(file *os.File) string {
	text, err := io.ReadAll(io.NewSectionReader(file, 0, 32))
	pid, parseErr := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || parseErr != nil {
		return "its id is unknown"
	}
	if pid == os.Getpid() {
		return "it is this one, process " + strconv.Itoa(pid)
	}
	return "it is process " + strconv.Itoa(pid)
}
