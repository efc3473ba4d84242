package orchestrator

import "github.com/treatyhq/treaty/orchestrator/internal/journal"

// The errors of a store. Compare them with errors.Is. The text of a returned error names the store and says
// what to do.
var (
	// ErrStoreLocked says that another process has the store open.
	ErrStoreLocked = journal.ErrLocked

	// ErrStoreCorrupt says that the store is damaged, or isn't a store.
	ErrStoreCorrupt = journal.ErrCorrupt

	// ErrStoreGone says that the store's file was deleted, replaced or emptied.
	ErrStoreGone = journal.ErrGone

	// ErrStoreBroken says that the store's engine has failed, for example because it ran out of memory. Nothing that
	// was acknowledged is lost. A new process opens the store again.
	ErrStoreBroken = journal.ErrBroken

	// ErrStoreVersion says that a newer version of Treaty wrote the store.
	ErrStoreVersion = journal.ErrVersion

	// ErrStoreReadOnly says that the store can't be written.
	ErrStoreReadOnly = journal.ErrReadOnly

	// ErrStoreKey says that the store is sealed, and its keys are missing.
	ErrStoreKey = journal.ErrKey

	// ErrStoreFull says that the store has no space left.
	ErrStoreFull = journal.ErrFull
)
