package inbox_test

import (
	"context"
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
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/treatyhq/treaty/participant"
	"github.com/treatyhq/treaty/participant/inbox"
)

// disk is a file system between SQLite and the operating system. It can fail, or lose its power. It records which
// changes of each file were synced, so that it can produce what is left then.
type disk struct {
	vfs.VFSFilename

	mu     sync.Mutex
	count  int // of operations
	last   int // The operation at which the power is lost, or 0.
	files  map[string]*content
	failed func(kind, file string) error // Called before an operation.
}

// content is a file as it may be found after a loss of power: what was synced, and any part of what was written since.
type content struct {
	synced  []byte
	pending []change
}

// change is a write, or a truncation if it has no data.
type change struct {
	offset int64
	data   []byte
}

var diskNumber atomic.Int64

// newDisk returns a disk, and the data source name of a database on it.
func newDisk(t *testing.T, path string) (*disk, string) {
	t.Helper()
	d := &disk{VFSFilename: vfs.Find("").(vfs.VFSFilename), files: make(map[string]*content)}
	name := fmt.Sprintf("inbox-disk-%d", diskNumber.Add(1))
	vfs.Register(name, d)
	t.Cleanup(func() { vfs.Unregister(name) })
	return d, inbox.SQLiteDSN(path) + "&_pragma=wal_autocheckpoint(12)&vfs=" + name
}

func (d *disk) OpenFilename(filename *vfs.Filename, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	name := filename.String()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.off() {
		return nil, flags, syscall.EIO
	}
	before, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, flags, err
	}
	file, flags, err := d.VFSFilename.OpenFilename(filename, flags)
	if err != nil {
		return nil, flags, err
	}
	if d.files[name] == nil {
		d.files[name] = &content{synced: before}
	}
	return &diskFile{File: file, disk: d, name: name}, flags, nil
}

func (d *disk) Delete(name string, syncDir bool) error {
	return d.do("delete", name, func(*content) error {
		delete(d.files, name) // What it had isn't found again: these tests are about contents, not names.
		return d.VFSFilename.Delete(name, syncDir)
	})
}

// off reports whether the power is lost.
func (d *disk) off() bool { return d.last > 0 && d.count >= d.last }

// do performs an operation, or fails it.
func (d *disk) do(kind, name string, perform func(*content) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.count++
	if d.off() {
		return &fs.PathError{Op: kind, Path: name, Err: syscall.EIO}
	}
	if d.failed != nil {
		if err := d.failed(kind, name); err != nil {
			return &fs.PathError{Op: kind, Path: name, Err: err}
		}
	}
	return perform(d.files[name])
}

// diskFile is an open file of a disk.
type diskFile struct {
	vfs.File

	disk *disk
	name string
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

// leave writes to a directory what a loss of power might leave. Each sector that wasn't synced was written or not.
func (d *disk) leave(t *testing.T, dir string, random *rand.Rand) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	const sector = 512
	kept := random.Float64()
	for name, c := range d.files {
		file := append([]byte{}, c.synced...)
		for _, done := range c.pending {
			for at := 0; at < len(done.data); {
				end := min(at+sector-int((done.offset+int64(at))%sector), len(done.data))
				if random.Float64() < kept {
					file = change{done.offset + int64(at), done.data[at:end]}.apply(file)
				}
				at = end
			}
			if done.data == nil && random.Float64() < kept {
				file = done.apply(file)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), file, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCommitInDoubt fails the commit of a batch at the disk, once its frames are written. Nobody is told that something
// was committed, or that it wasn't, and the next attempts find out.
func TestCommitInDoubt(t *testing.T) {
	for _, kind := range []string{"write", "sync"} {
		t.Run(kind, func(t *testing.T) {
			d, source := newDisk(t, filepath.Join(t.TempDir(), "service.db"))
			s := openWith(t, source, inbox.Options{})
			raise(t, s)
			fails := func(ctx context.Context, s *service, tx *inbox.Tx) error {
				d.mu.Lock()
				defer d.mu.Unlock()
				d.failed = func(k, file string) error {
					if k == kind && strings.HasSuffix(file, "-wal") {
						return syscall.EIO
					}
					return nil
				}
				return insert(ctx, s, tx)
			}
			calls := []waiter{
				{name: "first", ctx: command(t.Context(), "first", participant.Action), do: insert},
				{name: "before", ctx: command(t.Context(), "before", participant.Action), do: insert},
				{name: "fails", ctx: command(t.Context(), "fails", participant.Action), do: fails},
				{name: "last", ctx: command(t.Context(), "last", participant.Action), do: insert},
			}
			for name, o := range s.together(t, calls[0], calls[1:]...) {
				if status.Code(o.err) != codes.Unavailable || o.verdict != "" || o.runs != 1 ||
					participant.IsSettled(o.err) {
					t.Errorf("%s: %+v, want UNAVAILABLE after one run", name, o)
				}
			}
			d.mu.Lock()
			d.failed = nil
			d.mu.Unlock()
			for _, call := range calls {
				if err := s.do(call.ctx, insert); err != nil {
					t.Errorf("the next attempt of %s: %v", call.name, err)
				}
			}
			if n := audit(t, s.db); n != len(calls) || s.committed(t) != n {
				t.Errorf("%d commands were executed, with %d effects, want %d", n, s.committed(t), len(calls))
			}
		})
	}
}

// TestPowerLoss loses power while many callers are answered, at a random operation of the disk. Some of what wasn't
// synced is lost. Whatever was answered is stored, and each effect has its row.
func TestPowerLoss(t *testing.T) {
	losses := 40
	if testing.Short() {
		losses = 8
	}
	if found := losePower(t, losses, ""); found != nil {
		t.Error(found)
	}
}

// TestPowerLossIsNoticed is the control: without syncs, the same test finds that something is lost.
func TestPowerLossIsNoticed(t *testing.T) {
	if losePower(t, 60, "&_pragma=synchronous(off)") == nil {
		t.Error("power was lost again and again without a sync, and nothing was missing")
	}
}

// losePower returns what is missing after one of some losses of power.
func losePower(t *testing.T, losses int, pragma string) error {
	t.Helper()
	for seed := range uint64(losses) {
		random := rand.New(rand.NewPCG(seed, 7))
		d, source := newDisk(t, filepath.Join(t.TempDir(), "service.db"))
		s := openWith(t, source+pragma, inbox.Options{})
		raise(t, s)
		d.mu.Lock()
		d.last = d.count + 1 + random.IntN(300)
		d.mu.Unlock()
		answered := answeredUntilLoss(t, s)
		_ = s.db.Close() // It fails without power.
		left := t.TempDir()
		d.leave(t, left, random)
		db, err := inbox.OpenSQLiteDB(inbox.SQLiteDSN(filepath.Join(left, "service.db")))
		if err != nil {
			return err
		}
		err = missing(t, &service{db: db}, answered)
		if err := errors.Join(err, db.Close()); err != nil {
			return fmt.Errorf("loss %d: %w", seed+1, err)
		}
	}
	return nil
}

// answeredUntilLoss handles commands until the power is lost. It returns the sagas of those that were answered.
func answeredUntilLoss(t *testing.T, s *service) []string {
	t.Helper()
	var mu sync.Mutex
	var answered []string
	var all sync.WaitGroup
	for caller := range 12 {
		all.Go(func() {
			for n := range 1000 {
				saga := fmt.Sprintf("c%d-%d", caller, n)
				if err := s.do(command(t.Context(), saga, participant.Action), insert); err != nil {
					return
				}
				mu.Lock()
				answered = append(answered, saga)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return answered
}

// missing returns an error if a command that was answered isn't stored, or is stored without its effect.
func missing(t *testing.T, s *service, answered []string) error {
	t.Helper()
	var whole string
	if err := s.db.QueryRowContext(t.Context(), `PRAGMA integrity_check`).Scan(&whole); err != nil || whole != "ok" {
		return fmt.Errorf("the database is damaged: %s, %w", whole, err)
	}
	stored := make(map[string]bool)
	rows, err := s.db.QueryContext(t.Context(), `SELECT command_id FROM treaty_inbox`)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return err
		}
		stored[id] = true
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, saga := range answered {
		if id := "sagas/" + saga + "/steps/1"; !stored[id] {
			return fmt.Errorf("%s was answered and isn't stored", id)
		}
	}
	audit(t, s.db)
	return nil
}
