package sealed

// Refresh reads the file of keys again if it has changed.
func Refresh(keys *Keys) { keys.refreshed(nil) }
