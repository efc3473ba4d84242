package sqlite

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
)

// makePrivate takes from everybody but their owner the right to read and write the files of a store. The store creates
// them like that, but a copy of a backup has the mode that the program which copied it gave it.
func makePrivate(path string) error {
	if runtime.GOOS == "windows" {
		return nil // it has no such modes
	}
	for _, name := range []string{path, path + "-wal", path + "-shm", path + "-journal", path + "-lock"} {
		info, err := os.Stat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			err = os.Chmod(name, info.Mode().Perm()&0o700)
		}
		if errors.Is(err, fs.ErrPermission) {
			continue // it is another user's file, who decides about it
		}
		if err != nil {
			return explain("make private", name, err)
		}
	}
	return nil
}
