package sqlite

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// lockedByte is the byte that lockByte locks. It is far behind SQLite's own locks, and behind the end of any file.
const lockedByte = 1 << 60

// lockByte locks a byte of the database file for as long as the file is open. It is the kind of lock that SQLite's
// driver uses: unlike a POSIX lock, it isn't released when the process closes the file elsewhere.
func lockByte(file *os.File) error {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: lockedByte, Len: 1}
	for {
		switch err := unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLK, &lock); err {
		case unix.EINTR:
		case unix.EAGAIN, unix.EACCES:
			return errHeld
		default:
			return err
		}
	}
}
