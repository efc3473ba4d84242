// Package filelock keeps several processes from building or installing the same thing at the same time.
package filelock

import (
	"errors"
	"fmt"
	"os"
)

// Hold runs work while it has a file locked. It creates the file if it is missing, and waits until no other call, of
// this process or another one, has it locked. Where the system has no such locks, it only runs work.
func Hold(path string, work func() error) (err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("opening the lock file: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }() // which unlocks it
	if err := lock(file); err != nil {
		return fmt.Errorf("locking %s: %w", path, err)
	}
	return work()
}
