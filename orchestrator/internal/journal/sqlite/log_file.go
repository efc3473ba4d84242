package sqlite

import (
	"encoding/binary"

	"github.com/ncruces/go-sqlite3/vfs"
)

const (
	// frameHeader is the size of what precedes each page in a write-ahead log. SQLite writes it on its own.
	frameHeader = 24

	// maxHeld is how much of a transaction is held before it is written.
	maxHeld = 1 << 20
)

// logFile is a write-ahead log. It writes the frames of a transaction together: SQLite makes two small writes for each
// page, and a system call costs more than the copying.
//
// A frame is held back only while more of its transaction must follow, so that nobody can miss it: the last frame of a
// transaction says so in its header, and is written at once with all that is held. SQLite tells other connections of
// the frames after that. Whatever isn't a frame at the end of the log is written at once, too.
type logFile struct {
	file

	held   []byte // begins at offset
	offset int64
	end    int64 // of the last write
	follow bool  // the page of a header that was held comes next
}

// WriteAt writes to the log, or holds back what is written with the end of the transaction.
func (f *logFile) WriteAt(p []byte, offset int64) (int, error) {
	appended := offset == f.end
	f.end = offset + int64(len(p))
	if appended && len(f.held) < maxHeld {
		switch {
		case f.follow:
			f.follow = false
			f.held = append(f.held, p...)
			return len(p), nil
		case len(p) == frameHeader:
			f.hold(p, offset)
			return len(p), nil
		}
	}
	f.follow = false
	if appended && len(f.held) > 0 {
		f.held = append(f.held, p...)
		return len(p), f.flush()
	}
	if err := f.flush(); err != nil {
		return 0, err
	}
	return f.file.WriteAt(p, offset)
}

// hold holds the header of a frame.
func (f *logFile) hold(header []byte, offset int64) {
	if len(f.held) == 0 {
		f.offset = offset
	}
	f.held = append(f.held, header...)
	// Only the last frame of a transaction has the size of the database, in pages.
	f.follow = binary.BigEndian.Uint32(header[4:]) == 0
}

// flush writes what is held. If that fails, so has the transaction: what is held is dropped.
func (f *logFile) flush() error {
	f.follow = false
	if len(f.held) == 0 {
		return nil
	}
	_, err := f.file.WriteAt(f.held, f.offset)
	if f.held = f.held[:0]; err != nil || cap(f.held) > 2*maxHeld {
		f.held = nil
	}
	return err
}

// ReadAt reads from the log.
func (f *logFile) ReadAt(p []byte, offset int64) (int, error) {
	if err := f.flush(); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, offset)
}

// Size returns the size of the log.
func (f *logFile) Size() (int64, error) {
	if err := f.flush(); err != nil {
		return 0, err
	}
	return f.File.Size()
}

// Truncate changes the size of the log.
func (f *logFile) Truncate(size int64) error {
	if err := f.flush(); err != nil {
		return err
	}
	return f.file.Truncate(size)
}

// Sync makes all writes durable.
func (f *logFile) Sync(flags vfs.SyncFlag) error {
	if err := f.flush(); err != nil {
		return err
	}
	return f.file.Sync(flags)
}

// Close closes the log. What is still held belongs to a transaction that was given up.
func (f *logFile) Close() error { return f.File.Close() }
