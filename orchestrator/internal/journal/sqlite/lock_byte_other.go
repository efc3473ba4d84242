//go:build !linux

package sqlite

import "os"

// lockByte does nothing: the lock of the lock file must do. On Windows, it can't be deleted while it is open. Other
// systems have no lock of a part of a file that lasts while the process opens and closes the file elsewhere.
func lockByte(*os.File) error { return nil }
