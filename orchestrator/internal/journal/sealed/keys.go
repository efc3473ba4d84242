package sealed

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxFileBytes bounds what is read of a file of keys.
	maxFileBytes = 1 << 20

	// checkInterval is how often the file is looked at, at most. A key that is missing is looked for at once.
	checkInterval = time.Second
)

// Keys are the keys in a file. The file is read again when it has changed. If it is then invalid, a warning is logged,
// and the last keys stay in use. All methods may be called concurrently.
type Keys struct {
	path   string
	logger *slog.Logger
	loaded atomic.Pointer[ring]
	next   atomic.Int64 // when to look at the file again, in nanoseconds since 1970

	mu      sync.Mutex
	version fileVersion
	warned  string // the last warning, until the file is valid again
}

// fileVersion distinguishes one version of a file from another.
type fileVersion struct {
	modified time.Time
	size     int64
}

// OpenKeys reads the keys in a file. Only the file's owner may be able to read it. An error names the file, and never
// repeats a key.
func OpenKeys(path string, logger *slog.Logger) (*Keys, error) {
	k := &Keys{path: path, logger: logger}
	k.version, _ = versionOf(path) // before it is read, so that a change in between is found later
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	loaded, err := parseRing(data)
	if err != nil {
		return nil, invalid(path, err)
	}
	k.loaded.Store(loaded)
	k.next.Store(time.Now().Add(checkInterval).UnixNano())
	return k, nil
}

func invalid(path string, err error) error {
	return fmt.Errorf("reading the keys in %s: %w: restore the file, or write a new one with the command keys new",
		path, err)
}

// ring returns the keys.
func (k *Keys) ring() *ring {
	if time.Now().UnixNano() >= k.next.Load() && k.mu.TryLock() {
		defer k.mu.Unlock()
		k.next.Store(time.Now().Add(checkInterval).UnixNano())
		k.reload()
	}
	return k.loaded.Load()
}

// refreshed returns the keys as the file has them now, and whether they have changed since before.
func (k *Keys) refreshed(before *ring) (now *ring, changed bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.reload()
	now = k.loaded.Load()
	return now, now != before
}

// reload reads the file again if it has changed. The caller holds the lock.
func (k *Keys) reload() {
	version, err := versionOf(k.path)
	if err != nil || version == k.version {
		return // the file is being replaced, or was deleted
	}
	data, err := readFile(k.path)
	var loaded *ring
	if err == nil {
		loaded, err = parseRing(data)
	}
	if err != nil {
		if text := err.Error(); text != k.warned {
			k.warned = text
			k.logger.Warn("the file of the store's keys has changed and is invalid; keeping the keys in use",
				"file", k.path, "error", err)
		}
		return
	}
	k.version, k.warned = version, ""
	k.loaded.Store(loaded)
	k.logger.Info("the store's keys were read again", "file", k.path, "primary", loaded.primary.String(),
		"keys", len(loaded.keys))
}

func versionOf(path string) (fileVersion, error) {
	info, err := os.Stat(path)
	if err != nil {
		return fileVersion{}, err
	}
	return fileVersion{info.ModTime(), info.Size()}, nil
}

// isPrivate says whether a file with a mode and an owner is private to a process that runs as a user. If it is the
// user's own, nobody else may read it. If it is root's, a group may: root has decided who is in it.
func isPrivate(mode fs.FileMode, owner, user int) bool {
	if owner == 0 && user != 0 {
		return mode.Perm()&0o037 == 0
	}
	return mode.Perm()&0o077 == 0
}

// readFile reads a file of keys. It returns an error if the file isn't private.
func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the keys in %s: %w: restore it, or write a new one with the command keys new",
			path, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the keys: %w", err)
	}
	defer func() { _ = file.Close() }() // it was only read
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading the keys in %s: %w", path, err)
	}
	if owner, known := ownerOf(info); known && !isPrivate(info.Mode(), owner, os.Geteuid()) {
		return nil, fmt.Errorf("the keys in %s have the mode %04o: others can read or change them; change it to 0600, "+
			"or to 0640 if it is root's and this program runs as another user", path, info.Mode().Perm())
	}
	data, err := io.ReadAll(io.LimitReader(file, maxFileBytes+1))
	if err == nil && len(data) > maxFileBytes {
		err = fmt.Errorf("it is larger than %d bytes", maxFileBytes)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the keys in %s: %w", path, err)
	}
	return data, nil
}

// CreateKeys writes a new file with one key, which only its owner can read, and returns the key's id. It never
// overwrites a file: the error is then fs.ErrExist.
func CreateKeys(path string) (id string, err error) {
	file := newFile(time.Now())
	data, err := file.marshal()
	if err != nil {
		return "", err
	}
	temporary, err := writeTemporary(path, data)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.Remove(temporary)) }()
	if err := os.Link(temporary, path); err != nil { // unlike a renaming, it overwrites nothing
		if errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("writing keys to %s: %w: name a new file, or add a key with the command keys rotate",
				path, fs.ErrExist)
		}
		return "", fmt.Errorf("writing keys: %w", err)
	}
	return file.Primary, syncDirectory(path)
}

// RotateKeys adds a key to a file and makes it the primary one, and returns its id. The other keys stay, for reading.
// The file is replaced as a whole.
func RotateKeys(path string) (id string, err error) {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	data, err := readFile(path)
	if err != nil {
		return "", err
	}
	if _, err := parseRing(data); err != nil {
		return "", invalid(path, err)
	}
	file, err := parseFile(data)
	if err != nil {
		return "", invalid(path, err)
	}
	if len(file.Keys) >= MaxKeys {
		return "", fmt.Errorf("adding a key to %s: it has %d keys, which is the limit: take out one that nothing is "+
			"sealed with any more", path, len(file.Keys))
	}
	added := file.rotate(time.Now())
	if data, err = file.marshal(); err != nil {
		return "", err
	}
	temporary, err := writeTemporary(path, data)
	if err != nil {
		return "", err
	}
	if err := os.Rename(temporary, path); err != nil {
		return "", errors.Join(fmt.Errorf("writing keys: %w", err), os.Remove(temporary))
	}
	return added.String(), syncDirectory(path)
}

// writeTemporary writes a file next to path that only its owner can read, and makes it durable.
func writeTemporary(path string, data []byte) (name string, err error) {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return "", fmt.Errorf("writing keys: %w", err)
	}
	_, err = file.Write(data)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return "", errors.Join(fmt.Errorf("writing keys: %w", err), os.Remove(file.Name()))
	}
	return file.Name(), nil
}

func syncDirectory(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	directory, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("writing keys: %w", err)
	}
	if err := errors.Join(directory.Sync(), directory.Close()); err != nil {
		return fmt.Errorf("writing keys: %w", err)
	}
	return nil
}
