package sealed

import "io/fs"

// Refresh reads the file of keys again if it has changed.
func Refresh(keys *Keys) { keys.refreshed(nil) }

// IsPrivate says whether a file with a mode and an owner is private to a user's process.
func IsPrivate(mode fs.FileMode, owner, user int) bool { return isPrivate(mode, owner, user) }
