package journal

import (
	"fmt"
	"time"
)

// Parent is a saga of another orchestrator.
type Parent struct {
	// Scope is the scope of the other orchestrator's epochs. It is empty if that is of an earlier version.
	Scope string

	// Saga is the saga's id. It isn't empty.
	Saga string

	// Start is when the saga started, by the clock of its orchestrator, or zero if it isn't known.
	Start time.Time

	// Compensates says that the saga may compensate its child, also after the child has succeeded.
	Compensates bool
}

// ChildrenParams are the parameters of Reader.Children.
type ChildrenParams struct {
	// Scope selects the children whose parents have this scope or none.
	Scope string

	// Parent selects the children of the saga with this id. Empty selects those of all sagas.
	Parent string

	// Since selects the children whose rows were last written at this time or later. Zero selects all.
	Since time.Time

	// After is the last row of the page before, or nil for the first page. Only its Parent.Saga and ID are read.
	After *Row

	// Limit is the maximum number of rows. It must be positive.
	Limit int
}

// HeardScope is what a store remembers of the orchestrator that starts children in it.
type HeardScope struct {
	// Scope is the scope of its epochs. It isn't empty.
	Scope string

	// Epoch is the highest epoch.
	Epoch uint64

	// Position is the highest position of its store.
	Position uint64

	// StoreID is the id of its store.
	StoreID string

	// Horizon is the latest horizon, or zero.
	Horizon time.Time
}

// Merge returns what is known once something was heard. An older orchestrator, with a lower epoch, has nothing to say.
func (h HeardScope) Merge(told HeardScope) HeardScope {
	if told.Epoch < h.Epoch {
		return h
	}
	merged := told
	merged.Position = max(h.Position, told.Position)
	if told.StoreID == "" {
		merged.StoreID = h.StoreID
	}
	if h.Horizon.After(told.Horizon) {
		merged.Horizon = h.Horizon
	}
	return merged
}

// Validate returns ErrInvalid if no store can keep it.
func (h HeardScope) Validate() error {
	const most = 1<<63 - 1
	if h.Scope == "" || !areUTF8(h.Scope, h.StoreID) || h.Epoch > most || h.Position > most {
		return fmt.Errorf("%w: scope %q with the store %q, epoch %d and position %d", ErrInvalid, h.Scope, h.StoreID,
			h.Epoch, h.Position)
	}
	return nil
}
