// Package sqlite keeps sagas in one SQLite file, with nothing to install and nothing to run beside the orchestrator.
//
// One file belongs to one process at a time; a lock file next to it holds others off. Programs that only read, such as the
// sqlite3 shell, may look at it at any time: the views saga_list, saga_turns and saga_events show it in words. One Append is one transaction
// in write-ahead-log mode with synchronous=FULL: it is on the disk before Append returns. Readers never wait for the writer.
//
// Opening checks the file's header and schema, not its contents, so that it takes the same time whatever the size; Check reads it all.
// The package never interprets a turn's data.
package sqlite

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

var _ journal.Store = (*Store)(nil)

// Store is a journal.Store in a SQLite file. All methods may be called concurrently.
type Store struct {
	path    string
	options options
	lock    *fileLock // nil when the store is only read
	epoch   uint64

	// turnstile holds the one token that lets its owner use the writer. It is a channel so that waiting for it ends with a context.
	turnstile chan struct{}
	writer    *writer // nil when the store is only read

	readers *readers

	closing sync.Once
	closed  chan struct{}
}

// options says how a file is opened.
type options struct {
	// vfs is the file system that SQLite uses. Tests use one that injects faults.
	vfs string

	readOnly bool
}

// Open opens the store at path and creates the file, not the directory, if it isn't there. It begins a new epoch.
//
// The errors: ErrLocked when another process, or another Store in this one, has the file open; ErrVersion when a newer
// version wrote it; ErrCorrupt when it can't be read; ErrReadOnly and ErrFull when it can't be written. A file that belongs
// to another program is refused and left alone. The context bounds only the opening.
func Open(ctx context.Context, path string) (*Store, error) {
	return openFile(ctx, path, options{vfs: filesystemName})
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
	return &Store{path: path, options: opts, turnstile: make(chan struct{}, 1), closed: make(chan struct{})}
}

func (s *Store) open(ctx context.Context) error {
	if err := checkHeader(s.path); err != nil {
		return err
	}
	writer, err := openWriter(ctx, s.path, s.options)
	if err != nil {
		return s.fail(ctx, "open", err)
	}
	if s.epoch, err = writer.beginEpoch(); err != nil {
		return errors.Join(s.fail(ctx, "begin an epoch", err), writer.close())
	}
	if err := syncDirectory(s.path); err != nil {
		return errors.Join(s.fail(ctx, "sync the directory", err), writer.close())
	}
	s.writer = writer
	s.readers = newReaders(s.path, s.options)
	return nil
}

// Name returns the absolute path of the file, with symbolic links resolved.
func (s *Store) Name() string { return s.path }

// Epoch is the number of this opening; the one before had a smaller one. It was durable before Open returned.
func (s *Store) Epoch() uint64 { return s.epoch }

// Close waits for the calls under way, then folds the write-ahead log into the file, closes it and lets others open it. Later
// calls of other methods return ErrClosed; closing again does nothing.
func (s *Store) Close() error {
	var err error
	s.closing.Do(func() {
		close(s.closed)
		s.turnstile <- struct{}{}
		err = s.readers.close()
		if s.writer != nil {
			err = errors.Join(err, s.writer.close(), s.lock.release())
		}
	})
	if err != nil {
		return fmt.Errorf("close %s: %w", s.path, err)
	}
	return nil
}

// enter takes the writer; leave gives it back.
func (s *Store) enter(ctx context.Context) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	if s.writer == nil {
		return fmt.Errorf("%w: it was opened for reading", journal.ErrReadOnly)
	}
	select {
	case s.turnstile <- struct{}{}:
	case <-s.closed:
		return journal.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := s.usable(ctx); err != nil {
		s.leave()
		return err
	}
	return nil
}

func (s *Store) leave() { <-s.turnstile }

func (s *Store) usable(ctx context.Context) error {
	select {
	case <-s.closed:
		return journal.ErrClosed
	default:
		return ctx.Err()
	}
}
