package inbox

import (
	"io/fs"
	"net/url"
	"os"
	"strings"
)

// createPrivate creates the files of the database that a data source name is for, unless they exist, so that only their
// owner can read them: SQLite's driver creates files that everybody can read. If it can't create them, opening the
// database fails, too, and says why. It leaves alone what isn't a file, is only read, or is on a file system of its
// own.
func createPrivate(dataSource string) {
	parsed, err := url.Parse(dataSource)
	if err != nil || parsed.Scheme != "file" {
		return
	}
	settings := parsed.Query()
	path := parsed.Path
	if parsed.Opaque != "" {
		if path, err = url.PathUnescape(parsed.Opaque); err != nil {
			return
		}
	}
	mode := settings.Get("mode")
	if path == "" || path == ":memory:" || mode == "memory" || mode == "ro" || mode == "rw" || settings.Has("vfs") {
		return
	}
	createFile(path, 0o600)
	info, err := os.Stat(path)
	if err != nil {
		return
	}
	for _, pragma := range settings["_pragma"] {
		if strings.EqualFold(strings.ReplaceAll(pragma, " ", ""), "journal_mode(wal)") {
			createFile(path+"-shm", info.Mode().Perm()) // the write-ahead log gets it as well, see SQLiteDSN
		}
	}
}

// createFile creates an empty file, unless it exists.
func createFile(path string, mode fs.FileMode) {
	if file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, mode); err == nil {
		_ = file.Close() // it is empty
	}
}
