package dev

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"
)

// lookEvery is how often the files are looked at. A change counts once nothing more has changed for that long: an editor
// and git write many files at once. Looking is enough for the folders of a few services, and works everywhere.
const lookEvery = 250 * time.Millisecond

// watcher tells which processes' files changed.
type watcher struct {
	processes []Process
	seen      map[string]stamp // by path
}

// stamp tells one state of a file from another.
type stamp struct {
	modified time.Time
	size     int64
}

// newWatcher watches the files and folders of processes, with all folders below.
func newWatcher(processes []Process) (*watcher, error) {
	w := &watcher{processes: processes, seen: make(map[string]stamp)}
	for _, p := range processes {
		for _, path := range p.Watch {
			if err := look(path, w.seen); err != nil {
				return nil, fmt.Errorf("watching the files of %s: %w", p.Name, err)
			}
		}
	}
	return w, nil
}

// look notes the files at a path, or below it. Those that come and go meanwhile don't matter.
func look(path string, files map[string]stamp) error {
	return filepath.WalkDir(path, func(at string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil && at != path && errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case at != path && isIgnored(at):
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		case entry.IsDir():
			return nil
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			files[at] = stamp{info.ModTime(), info.Size()}
		}
		return err
	})
}

// changes looks at the files again, and returns those that were changed, added or removed.
func (w *watcher) changes() []string {
	now := make(map[string]stamp, len(w.seen))
	for _, p := range w.processes {
		for _, path := range p.Watch {
			_ = look(path, now) // what is gone has changed, and may come back
		}
	}
	var changed []string
	for path, stamp := range now {
		if before, there := w.seen[path]; !there || !before.modified.Equal(stamp.modified) || before.size != stamp.size {
			changed = append(changed, path)
		}
	}
	for path := range w.seen {
		if _, there := now[path]; !there {
			changed = append(changed, path)
		}
	}
	w.seen = now
	return changed
}

// isIgnored reports whether a path's change restarts nothing: hidden files, an editor's, tests and installed packages.
func isIgnored(path string) bool {
	name := filepath.Base(path)
	return strings.HasPrefix(name, ".") || strings.HasSuffix(name, "~") ||
		strings.HasSuffix(name, "_test.go") || name == "node_modules"
}

// run calls changed with a process's name and one of its files after each burst of changes, until ctx ends.
func (w *watcher) run(ctx context.Context, changed func(name, file string)) {
	pending := make(map[string]string)
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		files := w.changes()
		for _, file := range files {
			for _, p := range w.processes {
				if p.has(file) {
					pending[p.Name] = filepath.Base(file)
				}
			}
		}
		if len(files) > 0 {
			continue
		}
		for name, file := range pending {
			changed(name, file)
		}
		clear(pending)
	}
}

// has reports whether a file is one of those whose change restarts the process. Its stores never are.
func (p *Process) has(file string) bool {
	for _, store := range p.Stores {
		if strings.HasPrefix(file, store) {
			return false
		}
	}
	for _, path := range p.Watch {
		if file == path || strings.HasPrefix(file, path+string(filepath.Separator)) {
			return true
		}
	}
	return false
}
