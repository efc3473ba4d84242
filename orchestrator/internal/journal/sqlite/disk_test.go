package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/ncruces/go-sqlite3/vfs"
)

// disk is a file system between SQLite and the operating system. It injects faults. It also records which changes of
// each file were synced, so that it can produce what a loss of power might leave.
type disk struct {
	vfs.VFSFilename

	mu    sync.Mutex
	count int // the number of operations so far
	files map[string]*content

	// fault is called before each operation, with the lock held. Nil means no faults.
	fault func(operation) fault

	// off is set when power is lost. From then on, every operation fails and changes nothing.
	off bool
}

// operation is a change to a file.
type operation struct {
	kind   string // "write", "sync", "truncate" or "delete"
	suffix string // of the file: "", "-wal"
	number int    // counted over all files, from 1
}

// fault is how an operation fails. Without an error, it succeeds.
type fault struct {
	err  error
	done bool // whether the operation is carried out anyway
}

// content is a file as it may be found after a loss of power: what was synced, and any part of what was written since.
type content struct {
	synced  []byte
	pending []change
	named   bool // whether its name is durable
	deleted bool
}

// change is a write, or a truncation if it has no data.
type change struct {
	offset int64
	data   []byte
}

var diskNumber atomic.Int64

// newDisk registers a disk for a test, and returns it with the options that use it.
func newDisk(t testing.TB) (*disk, options) {
	t.Helper()
	d := &disk{VFSFilename: vfs.Find("").(vfs.VFSFilename), files: make(map[string]*content)}
	name := fmt.Sprintf("disk-%d", diskNumber.Add(1))
	vfs.Register(name, filesystem{d})
	t.Cleanup(func() { vfs.Unregister(name) })
	return d, options{vfs: name}
}

func (d *disk) OpenFilename(filename *vfs.Filename, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	name := filename.String()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off {
		return nil, flags, syscall.EIO
	}
	requested := flags
	before, readErr := os.ReadFile(name)
	file, flags, err := d.VFSFilename.OpenFilename(filename, flags)
	if err != nil {
		return nil, flags, err
	}
	if known := d.files[name]; known == nil || known.deleted {
		d.files[name] = &content{synced: before, named: readErr == nil}
	}
	const journals = vfs.OPEN_MAIN_JOURNAL | vfs.OPEN_SUPER_JOURNAL | vfs.OPEN_WAL
	syncsNames := requested&vfs.OPEN_CREATE != 0 && requested&journals != 0
	return &diskFile{File: file, disk: d, name: name, syncsNames: syncsNames}, flags, nil
}

func (d *disk) Delete(name string, syncDir bool) error { //nolint:revive // The interface is SQLite's.
	return d.do("delete", name, func(c *content) error {
		err := d.VFSFilename.Delete(name, syncDir)
		if err == nil && c != nil {
			c.deleted = true
		}
		if err == nil && syncDir {
			d.syncNames()
		}
		return err
	})
}

// syncNames makes the names of the files durable.
func (d *disk) syncNames() {
	for name, c := range d.files {
		if c.named = true; c.deleted {
			delete(d.files, name)
		}
	}
}

// do performs an operation, or fails it.
func (d *disk) do(kind, name string, perform func(*content) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.count++
	var f fault
	if d.fault != nil {
		suffix := ""
		if at := strings.LastIndexByte(filepath.Base(name), '-'); at >= 0 {
			suffix = filepath.Base(name)[at:]
		}
		f = d.fault(operation{kind: kind, suffix: suffix, number: d.count})
	}
	switch {
	case d.off:
		return &fs.PathError{Op: kind, Path: name, Err: syscall.EIO}
	case f.err != nil && !f.done:
		return &fs.PathError{Op: kind, Path: name, Err: f.err}
	}
	if err := perform(d.files[name]); err != nil {
		return err
	}
	if f.err != nil {
		return &fs.PathError{Op: kind, Path: name, Err: f.err}
	}
	return nil
}

// diskFile is an open file of a disk.
type diskFile struct {
	vfs.File

	disk       *disk
	name       string
	syncsNames bool // whether the next Sync syncs names, too, as the operating system does for such files
}

func (f *diskFile) WriteAt(p []byte, offset int64) (n int, err error) {
	err = f.disk.do("write", f.name, func(c *content) error {
		c.pending = append(c.pending, change{offset, append([]byte{}, p...)})
		n, err = f.File.WriteAt(p, offset)
		return err
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

func (f *diskFile) Truncate(size int64) error {
	return f.disk.do("truncate", f.name, func(c *content) error {
		c.pending = append(c.pending, change{offset: size})
		return f.File.Truncate(size)
	})
}

// Sync doesn't sync the real file: the process doesn't end, and tests only use the record of disk.
func (f *diskFile) Sync(vfs.SyncFlag) error {
	return f.disk.do("sync", f.name, func(c *content) error {
		for _, done := range c.pending {
			c.synced = done.apply(c.synced)
		}
		c.pending = nil
		if f.syncsNames {
			f.syncsNames = false
			f.disk.syncNames()
		}
		return nil
	})
}

// SharedMemory returns that of the operating system, since it need not be durable.
func (f *diskFile) SharedMemory() vfs.SharedMemory {
	if shared, ok := f.File.(vfs.FileSharedMemory); ok {
		return shared.SharedMemory()
	}
	return nil
}

func (c change) apply(file []byte) []byte {
	if c.data == nil {
		if c.offset <= int64(len(file)) {
			return file[:c.offset]
		}
		return append(file, make([]byte, c.offset-int64(len(file)))...)
	}
	if grow := c.offset + int64(len(c.data)) - int64(len(file)); grow > 0 {
		file = append(file, make([]byte, grow)...)
	}
	copy(file[c.offset:], c.data)
	return file
}

// sector is the number of bytes that a disk writes atomically.
const sector = 512

// leave writes to a directory what a loss of power might leave. Each unsynced sector was written or not.
func (d *disk) leave(dir string, random *rand.Rand) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.off {
		return errors.New("the power isn't lost")
	}
	kept := random.Float64() // the share of unsynced sectors that were written
	if random.IntN(4) == 0 {
		kept = float64(random.IntN(2))
	}
	for name, c := range d.files {
		if (c.deleted || !c.named) && random.IntN(2) == 0 {
			continue
		}
		file := append([]byte{}, c.synced...)
		for _, done := range c.pending {
			if done.data == nil {
				if random.Float64() < kept {
					file = done.apply(file)
				}
				continue
			}
			for at := 0; at < len(done.data); {
				end := min(at+sector-int((done.offset+int64(at))%sector), len(done.data))
				if random.Float64() < kept {
					file = change{done.offset + int64(at), done.data[at:end]}.apply(file)
				}
				at = end
			}
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), file, 0o600); err != nil {
			return err
		}
	}
	return nil
}
