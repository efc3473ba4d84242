package scaffold

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// writeAll writes files into a folder, all or none. It writes them to a temporary folder in it, and moves them when
// they are complete.
func writeAll(dir string, files map[string][]byte) (err error) {
	made, err := makeDir(dir)
	if err != nil {
		return err
	}
	temporary, err := os.MkdirTemp(dir, ".treaty-init-")
	if err != nil {
		return errors.Join(fmt.Errorf("writing into the folder: %w", err), removeAll(made))
	}
	var moved []string
	defer func() {
		err = errors.Join(err, os.RemoveAll(temporary))
		if err != nil {
			err = errors.Join(err, removeAll(append(moved, made...)))
		}
	}()
	var top []string
	for name, data := range files {
		path := filepath.Join(temporary, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			return fmt.Errorf("writing %s: %w", name, err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil { //nolint:gosec // sources, which others may read
			return fmt.Errorf("writing %s: %w", name, err)
		}
		first, _, _ := strings.Cut(name, "/")
		if !slices.Contains(top, first) {
			top = append(top, first)
		}
	}
	slices.Sort(top)
	for _, name := range top {
		to := filepath.Join(dir, name)
		if _, err := os.Lstat(to); err == nil {
			return fmt.Errorf("writing %s: somebody else has just written it", to)
		}
		if err := os.Rename(filepath.Join(temporary, name), to); err != nil {
			return fmt.Errorf("writing %s: %w", to, err)
		}
		moved = append(moved, to)
	}
	return nil
}

// makeDir makes a folder and those above it. It returns those that it has made, the innermost first.
func makeDir(dir string) (made []string, err error) {
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Lstat(at); err == nil {
			break
		}
		made = append(made, at)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // sources, which others may read
		return nil, errors.Join(fmt.Errorf("making the folder: %w", err), removeAll(made))
	}
	return made, nil
}

// removeAll removes files and folders, those that exist.
func removeAll(paths []string) error {
	var errs []error
	for _, path := range paths {
		errs = append(errs, os.RemoveAll(path))
	}
	return errors.Join(errs...)
}
