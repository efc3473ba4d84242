//go:build unix

package npm

import (
	"os"
	"syscall"
)

// lockFile waits until no other process has the file locked, and locks it until it is closed.
func lockFile(file *os.File) error {
	for {
		if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != syscall.EINTR {
			return err
		}
	}
}
