//go:build linux || darwin

package sqlite

import "golang.org/x/sys/unix"

// freeBytes returns how much space is left for this process on the disk of a directory, if that is known.
func freeBytes(directory string) (bytes uint64, known bool) {
	var disk unix.Statfs_t
	if err := unix.Statfs(directory, &disk); err != nil {
		return 0, false
	}
	return disk.Bavail * uint64(disk.Bsize), true //nolint:gosec // a block isn't smaller than nothing
}
