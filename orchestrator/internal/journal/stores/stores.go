package stores

import (
	"context"
	neturl "net/url"
	"strings"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// Store is an open store.
type Store interface {
	journal.Store
	Handle

	// Gone is closed when what is stored can no longer be found under the store's name, such as when its file was
	// deleted or replaced. From then on, methods return journal.ErrGone, and the store is of no use. It may be nil.
	Gone() <-chan struct{}

	// Failed is closed when the store's engine has failed, so that nothing is acknowledged any more. Close then returns
	// journal.ErrBroken. Nothing that was acknowledged before is lost, and the store can be opened again.
	Failed() <-chan struct{}

	// Size returns how much room the store takes. It is quick.
	Size() journal.Size
}

// Reader is a store that was opened for reading.
type Reader interface {
	journal.Reader
	Handle
}

// Handle is what the owner of an open store needs besides its contents.
type Handle interface {
	// Name returns where the store is, for logs and messages: the absolute path of a file, or a URL without its
	// password.
	Name() string

	// Close waits for the calls in flight and closes the store. Later calls of other methods return
	// journal.ErrClosed. Closing again does nothing.
	Close() error
}

// Open opens the store that a URL names, creates it if it doesn't exist, and begins a new fencing epoch. The context
// bounds only the opening.
//
// The errors are those of Check, and journal.ErrLocked, ErrVersion, ErrName, ErrBackup, ErrCorrupt, ErrReadOnly and
// ErrFull. Each says which store it is about and what to do.
func Open(ctx context.Context, url string, opening journal.Opening) (Store, error) {
	scheme, err := find(url)
	if err != nil {
		return nil, err
	}
	return scheme.open(ctx, url, opening)
}

// OpenReadOnly opens the store that a URL names for reading. It changes nothing that is stored, and works while an
// orchestrator has the store open. Epoch returns the epoch of the last Open. The context bounds only the opening.
//
// The errors are those of Check, fs.ErrNotExist when the store doesn't exist, journal.ErrVersion when another version
// wrote it, and journal.ErrCorrupt.
func OpenReadOnly(ctx context.Context, url string) (Reader, error) {
	scheme, err := find(url)
	if err != nil {
		return nil, err
	}
	return scheme.openReadOnly(ctx, url)
}

// Check returns an error if no store can have this URL: it is empty, or its scheme is unknown. It opens nothing. The
// error names the supported forms, and never repeats the URL, which may hold a password.
func Check(url string) error {
	_, err := find(url)
	return err
}

// Shared returns whether the store that a URL names can be shared by several processes. Such a store is opened in
// another way than by Open, which returns an error: each process owns only some of its shards.
func Shared(url string) bool {
	scheme, err := find(url)
	return err == nil && strings.HasPrefix(scheme.name, "postgres")
}

// Display returns how a store is named to people: its URL, without a password and parameters.
func Display(url string) string {
	if !Shared(url) {
		return url
	}
	parsed, err := neturl.Parse(url)
	if err != nil {
		return "the PostgreSQL database"
	}
	shown := neturl.URL{Scheme: parsed.Scheme, Host: parsed.Host, Path: parsed.Path}
	if name := parsed.User.Username(); name != "" {
		shown.User = neturl.User(name)
	}
	return shown.String()
}

// Backup copies the store that a URL names to a new file, while it may be open. It returns the time of the backup. The
// copy can't be opened for writing before it is restored.
func Backup(ctx context.Context, url, to string) (time.Time, error) {
	scheme, err := find(url)
	if err != nil {
		return time.Time{}, err
	}
	return scheme.backup(ctx, url, to)
}

// BackupProgress returns how many bytes of a backup are written that Backup is making, and about how many it will have.
// Both are 0 if that isn't known. It is quick.
func BackupProgress(url, to string) (written, whole int64) {
	scheme, err := find(url)
	if err != nil {
		return 0, 0
	}
	return scheme.written(url, to)
}

// Restore makes a store that was restored from a backup, or that was replaced, one that may be opened again. It must
// not be open. The errors are those of Open, fs.ErrNotExist, and journal.ErrInvalid for parameters that don't fit.
func Restore(ctx context.Context, url string, params journal.RestoreParams) (journal.Restored, error) {
	scheme, err := find(url)
	if err != nil {
		return journal.Restored{}, err
	}
	return scheme.restore(ctx, url, params)
}
