package sqlite

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"sync"
	"syscall"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/vfs"
)

// filesystem is the operating system's, but for two things. It tells SQLite that a disk is full or read-only: SQLite's driver
// reports both as any other failure of the disk, and by the time a statement has failed the cause is gone. And the files that it makes are for
// their owner alone, because what they hold is others' data.
type filesystem struct {
	vfs.VFSFilename
}

// filesystemName is what SQLite knows the filesystem by.
const filesystemName = "treaty"

// registerFilesystem makes the filesystem known to SQLite.
var registerFilesystem = sync.OnceValue(func() error {
	system, ok := vfs.Find("").(vfs.VFSFilename)
	if !ok {
		return errors.New("SQLite's driver has no file system for this operating system")
	}
	vfs.Register(filesystemName, filesystem{system})
	return nil
})

// OpenFilename opens a file of the operating system.
func (f filesystem) OpenFilename(name *vfs.Filename, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	if name != nil && flags&vfs.OPEN_CREATE != 0 {
		makePrivate(name.String())
		if log, is := strings.CutSuffix(name.String(), "-wal"); is {
			makePrivate(log + "-shm")
		}
	}
	opened, flags, err := f.VFSFilename.OpenFilename(name, flags)
	if err != nil {
		return nil, flags, classify(err)
	}
	return &file{File: opened}, flags, nil
}

// makePrivate makes a file that isn't there. When it can't, the driver can't either, and says why.
func makePrivate(name string) {
	if file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err == nil {
		_ = file.Close() // nothing was written to it
	}
}

// file is an open file. It passes on what SQLite uses of the operating system's files beyond vfs.File.
type file struct {
	vfs.File
}

var (
	_ vfs.FileUnwrap             = (*file)(nil)
	_ vfs.FileSharedMemory       = (*file)(nil)
	_ vfs.FileSizeHint           = (*file)(nil)
	_ vfs.FileLockState          = (*file)(nil)
	_ vfs.FileHasMoved           = (*file)(nil)
	_ vfs.FilePersistWAL         = (*file)(nil)
	_ vfs.FilePowersafeOverwrite = (*file)(nil)
)

// Unwrap returns the operating system's file.
func (f *file) Unwrap() vfs.File { return f.File }

// WriteAt writes.
func (f *file) WriteAt(p []byte, offset int64) (int, error) {
	n, err := f.File.WriteAt(p, offset)
	return n, classify(err)
}

// Truncate changes the file's size.
func (f *file) Truncate(size int64) error { return classify(f.File.Truncate(size)) }

// Sync makes durable what was written.
func (f *file) Sync(flags vfs.SyncFlag) error { return classify(f.File.Sync(flags)) }

// SizeHint takes the room that will be needed.
func (f *file) SizeHint(size int64) error {
	if hinted, ok := f.File.(vfs.FileSizeHint); ok {
		return classify(hinted.SizeHint(size))
	}
	return nil
}

// SharedMemory is the index of the write-ahead log.
func (f *file) SharedMemory() vfs.SharedMemory {
	if shared, ok := f.File.(vfs.FileSharedMemory); ok {
		return shared.SharedMemory()
	}
	return nil
}

// LockState is the lock that this connection has; one that nobody has when it is unknown.
func (f *file) LockState() vfs.LockLevel {
	if locked, ok := f.File.(vfs.FileLockState); ok {
		return locked.LockState()
	}
	return vfs.LOCK_EXCLUSIVE + 1
}

// HasMoved says whether the file has another name than when it was opened.
func (f *file) HasMoved() (bool, error) {
	if moved, ok := f.File.(vfs.FileHasMoved); ok {
		return moved.HasMoved() //nolint:wrapcheck // SQLite's driver looks at the type
	}
	return false, nil
}

// PersistWAL says whether the write-ahead log stays when the last connection closes.
func (f *file) PersistWAL() bool {
	kept, ok := f.File.(vfs.FilePersistWAL)
	return ok && kept.PersistWAL()
}

// SetPersistWAL changes PersistWAL.
func (f *file) SetPersistWAL(keep bool) {
	if kept, ok := f.File.(vfs.FilePersistWAL); ok {
		kept.SetPersistWAL(keep)
	}
}

// PowersafeOverwrite says that a write harms nothing beside it when power is lost.
func (f *file) PowersafeOverwrite() bool {
	safe, ok := f.File.(vfs.FilePowersafeOverwrite)
	return ok && safe.PowersafeOverwrite()
}

// SetPowersafeOverwrite changes PowersafeOverwrite.
func (f *file) SetPowersafeOverwrite(on bool) {
	if safe, ok := f.File.(vfs.FilePowersafeOverwrite); ok {
		safe.SetPowersafeOverwrite(on)
	}
}

// classify gives an error of the operating system the SQLite code that means it.
func classify(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		return vfs.SystemError(err, sqlite3.FULL) //nolint:wrapcheck // SQLite's driver looks at the type
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		return vfs.SystemError(err, sqlite3.READONLY) //nolint:wrapcheck // SQLite's driver looks at the type
	default:
		return err
	}
}
