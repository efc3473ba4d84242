package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

var _ journal.Store = (*Store)(nil)

// Store is a journal.Store in a SQLite file. All methods may be called concurrently.
type Store struct {
	path    string
	options options
	lock    *fileLock // nil if the store is open for reading

	// identity is what the store said when it was opened.
	identity journal.Identity

	// writerToken has room for one token, which the user of the writer puts there. It is a channel, so that waiting
	// for it can end with a context.
	writerToken chan struct{}
	writer      *writer // nil if the store is open for reading

	readers *readers

	watch *watch // nil if the store is open for reading

	closing sync.Once
	closed  chan struct{}
}

// options are the options of a connection.
type options struct {
	// vfs is the file system that SQLite uses. Tests use one that injects faults.
	vfs string

	readOnly bool

	opening journal.Opening
}

// Open opens the store at path for writing and begins a new epoch, as journal.Opening says. It creates the file if it
// doesn't exist, but not its directory. The context limits only the opening.
//
// It returns ErrLocked if another process, or another Store in this process, has the file open; ErrVersion if a newer
// version wrote it; ErrName if it belongs to an orchestrator with another name; ErrBackup if it is a backup; ErrCorrupt
// if it can't be read; ErrGone if it is empty or missing and was a store before, or lacks what was acknowledged last;
// and ErrReadOnly or ErrFull if it can't be written. It returns an error for a file that belongs to another program,
// and doesn't change it.
func Open(ctx context.Context, path string, opening journal.Opening) (*Store, error) {
	return openFile(ctx, path, options{vfs: filesystemName, opening: opening})
}

func openFile(ctx context.Context, path string, opts options) (*Store, error) {
	path, err := resolve(path)
	if err != nil {
		return nil, err
	}
	lock, err := acquireLock(path)
	if err != nil {
		return nil, err
	}
	s := newStore(path, opts)
	s.lock = lock
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, lock.release())
	}
	return s, nil
}

func newStore(path string, opts options) *Store {
	return &Store{path: path, options: opts, writerToken: make(chan struct{}, 1), closed: make(chan struct{})}
}

func (s *Store) open(ctx context.Context) error {
	if err := checkHeader(s.path); err != nil {
		return err
	}
	if err := s.lock.checkNew(s.path); err != nil {
		return err
	}
	if err := makePrivate(s.path); err != nil {
		return err
	}
	if err := s.lock.lockDatabase(s.path); err != nil {
		return err
	}
	writer, err := openWriter(ctx, s.path, s.options)
	if err != nil {
		return s.wrap(ctx, "open", err)
	}
	if err := s.lock.lockDatabase(s.path); err != nil { // it may not have existed before
		return errors.Join(err, writer.close())
	}
	writer.mark = newMark(s.lock.file)
	if was, err := writer.mark.read(); err != nil {
		return errors.Join(s.wrap(ctx, "read the lock file", err), writer.close())
	} else if err := writer.checkMark(was); err != nil {
		return errors.Join(s.wrap(ctx, "open", err), writer.close())
	}
	if s.identity, err = writer.identify(s.options.opening); err != nil {
		return errors.Join(s.wrap(ctx, "begin an epoch", err), writer.close())
	}
	if err := syncDirectory(s.path); err != nil {
		return errors.Join(s.wrap(ctx, "sync the directory", err), writer.close())
	}
	if err := s.lock.note(s.identity.StoreID); err != nil {
		return errors.Join(s.wrap(ctx, "write the lock file", err), writer.close())
	}
	if s.watch, err = newWatch(s.path); err != nil {
		return errors.Join(s.wrap(ctx, "watch", err), writer.close())
	}
	s.writer = writer
	s.readers = newReaders(s.path, s.options)
	return nil
}

// Name returns the absolute path of the file, with symbolic links resolved.
func (s *Store) Name() string { return s.path }

// Epoch implements journal.Store. The epoch was durable before Open returned.
func (s *Store) Epoch() uint64 { return s.identity.Epoch }

// Identity implements journal.Store.
func (s *Store) Identity() journal.Identity { return s.identity }

// Size returns the sizes of the store's files. Those that can't be read count as empty.
func (s *Store) Size() journal.Size {
	size := func(path string) int64 {
		info, err := os.Stat(path)
		if err != nil {
			return 0
		}
		return info.Size()
	}
	return journal.Size{File: size(s.path), Log: size(s.path + "-wal")}
}

// Gone is closed when the file, or its write-ahead log, was deleted or replaced while the store was open, which is
// noticed within a second. From then on, methods return ErrGone, and nothing is acknowledged any more. It is nil if the
// store is open for reading.
func (s *Store) Gone() <-chan struct{} {
	if s.watch == nil {
		return nil
	}
	return s.watch.gone
}

// Failed is closed when the engine that writes has failed. From then on, methods that write return ErrBroken, and
// nothing is acknowledged any more. The store works again once it was closed and opened. It is nil if the store is open
// for reading.
func (s *Store) Failed() <-chan struct{} {
	if s.writer == nil {
		return nil
	}
	return s.writer.failed
}

// Close waits for the calls in flight, moves the write-ahead log into the file, closes it, and releases its lock.
// Later calls of other methods return ErrClosed. Closing again does nothing. Close returns ErrGone if the file was
// deleted or replaced, and ErrBroken if the engine has failed.
func (s *Store) Close() error {
	var err error
	s.closing.Do(func() {
		close(s.closed)
		s.writerToken <- struct{}{}
		if s.watch != nil {
			err = s.watch.close()
		}
		err = errors.Join(err, s.readers.close())
		if s.writer != nil {
			err = errors.Join(err, s.writer.broken, s.writer.close(), s.lock.release())
		}
	})
	if err != nil {
		return fmt.Errorf("close %s: %w", s.path, err)
	}
	return nil
}

// acquireWriter waits until the writer is free and takes it. The caller calls releaseWriter.
func (s *Store) acquireWriter(ctx context.Context) error {
	if err := s.checkOpen(ctx); err != nil {
		return err
	}
	if s.writer == nil {
		return fmt.Errorf("%w: it is open for reading", journal.ErrReadOnly)
	}
	select {
	case s.writerToken <- struct{}{}:
	case <-s.closed:
		return journal.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := s.checkOpen(ctx); err != nil {
		s.releaseWriter()
		return err
	}
	return nil
}

func (s *Store) releaseWriter() { <-s.writerToken }

// checkOpen returns ErrClosed if the store is closed, ErrGone if its file is gone, or the error of a context that has
// ended.
func (s *Store) checkOpen(ctx context.Context) error {
	select {
	case <-s.closed:
		return journal.ErrClosed
	default:
	}
	if err := s.watch.lost(); err != nil {
		return err
	}
	return ctx.Err()
}
