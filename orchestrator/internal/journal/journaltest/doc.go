// Package journaltest tests stores of sagas, and other packages with them.
//
// # Suite
//
// [Exercise] is the suite that every [journal.Store] passes. It tests every promise in the comments of package
// journal, and compares the store with a [Memory] in random runs.
//
// [ExerciseWriters] is the suite of stores that several processes write at the same time.
//
// # Stores for tests
//
// [Memory] is a store in memory. [Faults] is a store that fails where a test wants it to, before or after the commit.
package journaltest

import "github.com/treatyhq/treaty/orchestrator/internal/journal"

// Store is a store that can be closed.
type Store interface {
	journal.Store

	// Close waits for the calls in flight and closes the store. Later calls of other methods return journal.ErrClosed.
	// Closing again does nothing.
	Close() error
}
