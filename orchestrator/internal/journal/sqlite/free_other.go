//go:build !linux && !darwin

package sqlite

// freeBytes returns how much space is left on the disk of a directory, if that is known. Here it isn't.
func freeBytes(string) (bytes uint64, known bool) { return 0, false }
