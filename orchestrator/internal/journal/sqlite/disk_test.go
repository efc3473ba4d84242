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

// disk stands between SQLite and the operating system. It fails operations where a test wants it to, and knows what of each file
// was synced, so that it can tell what a loss of power might leave.
type disk struct {
	vfs.VFSFilename

	mu    sync.Mutex
	count int // how many operations that change something were made
	files map[string]*content

	// fault is asked before each operation; nil means none. It is called with the lock held.
	fault func(operation) fault

	// off is set when power is lost: nothing reaches a file any more, and every operation fails.
	off bool
}

// operation is one thing that changes a file.
type operation struct {
	kind   string // "write", "sync", "truncate" or "delete"
	suffix string // of the file: "", "-wal"
	number int    // counted over all files, from 1
}

// fault is how an operation fails; no error means that it doesn't.
type fault struct {
	err  error
	done bool // it is done all the same
}

// content is a file as it would be found after a loss of power: what was synced, and any of what was done since.
type content struct {
	synced  []byte
	pending []change
	named   bool // its name is durable
	deleted bool
}

// change is a write, or a truncation if it has no data.
type change struct {
	offset int64
	data   []byte
}

var diskNumber atomic.Int64

// newDisk registers a disk for the test and returns it with the options that use it.
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
	asked := flags
	before, readErr := os.ReadFile(name)
	file, flags, err := d.VFSFilename.OpenFilename(filename, flags)
	if err != nil {
		return nil, flags, err
	}
	if known := d.files[name]; known == nil || known.deleted {
		d.files[name] = &content{synced: before, named: readErr == nil}
	}
	const journals = vfs.OPEN_MAIN_JOURNAL | vfs.OPEN_SUPER_JOURNAL | vfs.OPEN_WAL
	return &diskFile{File: file, disk: d, name: name, syncsNames: asked&vfs.OPEN_CREATE != 0 && asked&journals != 0}, flags, nil
}

func (d *disk) Delete(name string, syncDir bool) error { //nolint:revive // the interface is SQLite's
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

// syncNames makes durable which files there are.
func (d *disk) syncNames() {
	for name, c := range d.files {
		if c.named = true; c.deleted {
			delete(d.files, name)
		}
	}
}

// do performs an operation, unless it is to fail.
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
	syncsNames bool // with its next Sync, as the operating system's files of this kind do
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

// Sync doesn't ask the real disk: the process goes on, and only what disk remembers is tested.
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

// SharedMemory is the operating system's: it needn't survive anything.
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

// sector is how much a disk writes at once.
const sector = 512

// leave writes what a loss of power might leave into a directory: of what wasn't synced, each sector got there or didn't.
func (d *disk) leave(dir string, random *rand.Rand) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.off {
		return errors.New("the power is on")
	}
	kept := random.Float64() // of the unsynced sectors
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
