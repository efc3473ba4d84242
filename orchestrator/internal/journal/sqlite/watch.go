package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// watchInterval is how often a watch looks at the files.
const watchInterval = 250 * time.Millisecond

// watch notices that the file of an open store, or its write-ahead log, was deleted or replaced. SQLite wouldn't: it
// would go on writing to files that nobody can open any more.
type watch struct {
	path  string
	files map[string]fs.FileInfo // by the suffix of the path

	// gone is closed when one of the files is gone. err says which one, and is set before.
	gone chan struct{}
	err  error

	stop, stopped chan struct{}
}

// newWatch starts to watch the files of a store. The caller calls close.
func newWatch(path string) (*watch, error) {
	w := &watch{
		path: path, files: make(map[string]fs.FileInfo),
		gone: make(chan struct{}), stop: make(chan struct{}), stopped: make(chan struct{}),
	}
	for _, suffix := range []string{"", "-wal"} {
		info, err := os.Stat(path + suffix)
		if err != nil {
			return nil, err
		}
		w.files[suffix] = info
	}
	go w.run()
	return w, nil
}

func (w *watch) run() {
	defer close(w.stopped)
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for {
		stopping := false
		select {
		case <-ticker.C:
		case <-w.stop:
			stopping = true // it looks once more, so that nothing that was written at the end is lost silently
		}
		if w.err = w.look(); w.err != nil {
			close(w.gone)
			return
		}
		if stopping {
			return
		}
	}
}

// look returns an ErrGone if one of the files isn't the one that was opened. Other failures tell nothing.
func (w *watch) look() error {
	for suffix, opened := range w.files {
		now, err := os.Stat(w.path + suffix)
		var what string
		switch {
		case errors.Is(err, fs.ErrNotExist):
			what = "deleted or moved"
		case err == nil && !os.SameFile(opened, now):
			what = "replaced"
		default:
			continue
		}
		return fmt.Errorf("%w: %s%s was %s while it was open; what was written since is lost when this process ends: "+
			"restore the store from a backup", journal.ErrGone, w.path, suffix, what)
	}
	return nil
}

// close stops watching and looks a last time. It returns an ErrGone if a file is gone. It must be called before the
// store closes its files.
func (w *watch) close() error {
	close(w.stop)
	<-w.stopped
	return w.err
}

// lost returns an ErrGone once a file is gone. A nil watch never does.
func (w *watch) lost() error {
	if w == nil {
		return nil
	}
	select {
	case <-w.gone:
		return w.err
	default:
		return nil
	}
}
