package journal

import "errors"

// The causes of a store's errors. Compare with errors.Is.
var (
	// ErrNotFound means that the saga, or the consumer, certainly doesn't exist. A store never returns it for a
	// failure of the database.
	ErrNotFound = errors.New("not found")

	// ErrExists means that a saga with this id, or a different event with this source and id, exists already.
	ErrExists = errors.New("already exists")

	// ErrForeign means that an event with this source and id, or a consumer, belongs to another principal.
	ErrForeign = errors.New("it belongs to another principal")

	// ErrPurged means that a saga with this id has ended and was purged.
	ErrPurged = errors.New("purged")

	// ErrConflict means that the turn doesn't follow the saga's last turn: another writer has added a turn, or the saga
	// doesn't exist.
	ErrConflict = errors.New("the journal was changed by another writer")

	// ErrElsewhere means that the saga belongs to another shard of the store. The error is an *ElsewhereError.
	ErrElsewhere = errors.New("the saga belongs to another shard")

	// ErrFenced means that another instance has taken the shard, so that nothing can be written under its epoch any
	// more. Nothing was written.
	ErrFenced = errors.New("another instance owns the shard")

	// ErrLocked means that another process has the store open.
	ErrLocked = errors.New("another process has the store open")

	// ErrName means that the store belongs to an orchestrator with another name.
	ErrName = errors.New("the store belongs to another orchestrator")

	// ErrBackup means that the store is a backup, which must be restored before it is opened for writing.
	ErrBackup = errors.New("the store is a backup")

	// ErrCorrupt means that stored data can't be read as what was written.
	ErrCorrupt = errors.New("the store is corrupt")

	// ErrKey means that what is stored was sealed with a key that is missing. The error is a *KeyError.
	ErrKey = errors.New("a key is missing")

	// ErrGone means that the store's file isn't there any more: it was deleted, replaced or emptied.
	ErrGone = errors.New("the store's file is gone")

	// ErrBroken means that the store's engine has failed, for example because it ran out of memory. The store can't be
	// used any more until it is opened again. Nothing that was acknowledged is lost.
	ErrBroken = errors.New("the store's engine has failed")

	// ErrVersion means that another version of this program wrote the store: a newer one, or, for a store that is
	// opened for reading and so can't be migrated, an older one.
	ErrVersion = errors.New("the store was written by another version")

	// ErrFull means that there is no space left.
	ErrFull = errors.New("no space left")

	// ErrReadOnly means that the store can't be written.
	ErrReadOnly = errors.New("the store is read-only")

	// ErrInvalid means that no store can do what the caller asked for, such as to write a first turn without a row.
	// Nothing was written.
	ErrInvalid = errors.New("invalid request to the store")

	// ErrClosed means that the store was closed before the call. Nothing was written.
	ErrClosed = errors.New("the store is closed")
)
