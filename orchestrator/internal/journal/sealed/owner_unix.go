//go:build unix

package sealed

import (
	"io/fs"
	"syscall"
)

// ownerOf returns the number of the user to whom a file belongs, or -1 if a file system has none.
func ownerOf(info fs.FileInfo) (user int, known bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return -1, true
	}
	return int(stat.Uid), true
}
