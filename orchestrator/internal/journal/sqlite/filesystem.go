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

// filesystem is the operating system's file system with two changes. It tells SQLite when a disk is full or
// read-only: SQLite's driver reports both like any other failure of the disk, so a failed statement wouldn't show the
// cause. And only their owner can read the files that it creates, since they hold other people's data.
type filesystem struct {
	vfs.VFSFilename
}

// filesystemName is the name under which SQLite finds the filesystem.
const filesystemName = "treaty"

// registerFilesystem registers the filesystem with SQLite.
var registerFilesystem = sync.OnceValue(func() error {
	system, ok := vfs.Find("").(vfs.VFSFilename)
	if !ok {
		return errors.New("SQLite's driver has no file system for this operating system")
	}
	vfs.Register(filesystemName, filesystem{system})
	return nil
})

// OpenFilename opens a file.
func (f filesystem) OpenFilename(name *vfs.Filename, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	if name != nil && flags&vfs.OPEN_CREATE != 0 {
		createPrivate(name.String())
		if log, is := strings.CutSuffix(name.String(), "-wal"); is {
			createPrivate(log + "-shm")
		}
	}
	opened, flags, err := f.VFSFilename.OpenFilename(name, flags)
	if err != nil {
		return nil, flags, classify(err)
	}
	if flags&vfs.OPEN_WAL != 0 {
		return &logFile{file: file{File: opened}}, flags, nil
	}
	return &file{File: opened}, flags, nil
}

// createPrivate creates a file that only its owner can read, unless it exists. If it can't, the driver will fail,
// too, and say why.
func createPrivate(name string) {
	if file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err == nil {
		_ = file.Close() // it is empty
	}
}

// file is an open file. It forwards the optional interfaces of vfs.File that SQLite uses.
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

// WriteAt writes to the file.
func (f *file) WriteAt(p []byte, offset int64) (int, error) {
	n, err := f.File.WriteAt(p, offset)
	return n, classify(err)
}

// Truncate changes the size of the file.
func (f *file) Truncate(size int64) error { return classify(f.File.Truncate(size)) }

// Sync makes all writes durable.
func (f *file) Sync(flags vfs.SyncFlag) error { return classify(f.File.Sync(flags)) }

// SizeHint reserves space for the file.
func (f *file) SizeHint(size int64) error {
	if hinted, ok := f.File.(vfs.FileSizeHint); ok {
		return classify(hinted.SizeHint(size))
	}
	return nil
}

// SharedMemory returns the index of the write-ahead log.
func (f *file) SharedMemory() vfs.SharedMemory {
	if shared, ok := f.File.(vfs.FileSharedMemory); ok {
		return shared.SharedMemory()
	}
	return nil
}

// LockState returns the lock that this connection holds, or an invalid one if it is unknown.
func (f *file) LockState() vfs.LockLevel {
	if locked, ok := f.File.(vfs.FileLockState); ok {
		return locked.LockState()
	}
	return vfs.LOCK_EXCLUSIVE + 1
}

// HasMoved returns whether the file was renamed since it was opened.
func (f *file) HasMoved() (bool, error) {
	if moved, ok := f.File.(vfs.FileHasMoved); ok {
		return moved.HasMoved()
	}
	return false, nil
}

// PersistWAL returns whether the write-ahead log stays when the last connection closes.
func (f *file) PersistWAL() bool {
	kept, ok := f.File.(vfs.FilePersistWAL)
	return ok && kept.PersistWAL()
}

// SetPersistWAL sets PersistWAL.
func (f *file) SetPersistWAL(keep bool) {
	if kept, ok := f.File.(vfs.FilePersistWAL); ok {
		kept.SetPersistWAL(keep)
	}
}

// PowersafeOverwrite returns whether a power loss during a write leaves the bytes around it intact.
func (f *file) PowersafeOverwrite() bool {
	safe, ok := f.File.(vfs.FilePowersafeOverwrite)
	return ok && safe.PowersafeOverwrite()
}

// SetPowersafeOverwrite sets PowersafeOverwrite.
func (f *file) SetPowersafeOverwrite(on bool) {
	if safe, ok := f.File.(vfs.FilePowersafeOverwrite); ok {
		safe.SetPowersafeOverwrite(on)
	}
}

// classify adds the SQLite code to an error of the operating system. SQLite's driver looks at the type of the result.
func classify(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		return vfs.SystemError(err, sqlite3.FULL)
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		return vfs.SystemError(err, sqlite3.READONLY)
	default:
		return err
	}
}
