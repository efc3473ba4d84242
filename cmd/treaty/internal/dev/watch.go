package dev

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// quiet is how long nothing must change before a change counts: an editor and git write many files at once.
const quiet = 200 * time.Millisecond

// watcher tells which processes' files changed.
type watcher struct {
	notify    *fsnotify.Watcher
	processes []Process
}

// newWatcher watches the files and folders of processes, with all folders below.
func newWatcher(processes []Process) (*watcher, error) {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watching files: %w", err)
	}
	w := &watcher{notify: notify, processes: processes}
	for _, p := range processes {
		for _, path := range p.Watch {
			if err := w.add(path); err != nil {
				w.close()
				return nil, fmt.Errorf("watching the files of %s: %w", p.Name, err)
			}
		}
	}
	return w, nil
}

func (w *watcher) close() { _ = w.notify.Close() }

// add watches a folder and those below it, or a file's folder.
func (w *watcher) add(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return w.notify.Add(filepath.Dir(path))
	}
	return filepath.WalkDir(path, func(at string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil || !entry.IsDir():
			return err
		case at != path && isIgnored(at):
			return fs.SkipDir
		default:
			return w.notify.Add(at)
		}
	})
}

// isIgnored reports whether a path's change restarts nothing: hidden files, an editor's, tests and installed packages.
func isIgnored(path string) bool {
	name := filepath.Base(path)
	return strings.HasPrefix(name, ".") || strings.HasSuffix(name, "~") ||
		strings.HasSuffix(name, "_test.go") || name == "node_modules"
}

// run calls changed with a process's name and one of its files after each burst of changes, until ctx ends.
func (w *watcher) run(ctx context.Context, output *Output, changed func(name, file string)) {
	pending := make(map[string]string)
	var settled <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case err := <-w.notify.Errors:
			output.Say("watching files: %v; type r to restart all", err)
		case event := <-w.notify.Events:
			if isIgnored(event.Name) || event.Op == fsnotify.Chmod {
				continue
			}
			if event.Has(fsnotify.Create) {
				if info, err := os.Stat(event.Name); err == nil && info.IsDir() {
					_ = w.add(event.Name) // It may be gone already.
				}
			}
			for _, p := range w.processes {
				if p.has(event.Name) {
					pending[p.Name] = filepath.Base(event.Name)
					settled = time.After(quiet)
				}
			}
		case <-settled:
			for name, file := range pending {
				changed(name, file)
			}
			clear(pending)
		}
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
