package journal

import "time"

// OpenParams are the parameters of Reader.Open.
type OpenParams struct {
	// After is the id after which the page begins.
	After string

	// Limit is the maximum number of sagas. It must be positive.
	Limit int

	// Which selects the sagas. The default is Driven.
	Which OpenSagas
}

// OpenSagas selects sagas that haven't ended.
type OpenSagas int

const (
	// Driven selects the sagas in the states RUNNING and COMPENSATING that don't only wait.
	Driven OpenSagas = iota

	// Unended selects all sagas in the states RUNNING, COMPENSATING and SUSPENDED.
	Unended
)

// ListParams are the parameters of Reader.List.
type ListParams struct {
	// Filter selects rows. Nil selects all.
	Filter *Filter

	// Order is the order of the rows. Rows with the same time are sorted by id, in the same direction.
	Order Order

	// After is the last row of the page before, or nil for the first page. Only its ID and the time of the order are
	// read.
	After *Row

	// Limit is the maximum number of rows. It must be positive.
	Limit int
}

// Order is an order of rows.
type Order struct {
	// By is the time by which rows are sorted.
	By OrderField

	// Descending returns the newest first.
	Descending bool
}

// OrderField is a time of a Row.
type OrderField int

// The times by which rows can be sorted.
const (
	OrderByCreateTime OrderField = iota
	OrderByUpdateTime
)

// PurgeParams are the parameters of Store.Purge.
type PurgeParams struct {
	// Definitions are the definitions whose sagas to delete. Empty means none.
	Definitions []string

	// Saga is the id of the only saga to delete, or empty. With it, Definitions, EndedBefore and Compensated aren't
	// read.
	Saga string

	// EndedBefore is the time before which a saga must have ended, by its row's EndTime. A saga in a state that isn't
	// final is never deleted. Nor is one whose Parent may still send commands, see Reader.OldestChild. With a saga,
	// those of which it is the LocalParent are deleted, and those of which they are, whatever their definitions and the
	// time. If one of them hasn't ended, all stay.
	EndedBefore time.Time

	// Compensated selects the sagas whose Parent has Compensates. By default, they are left out.
	Compensated bool

	// ExceptPrefix leaves out the sagas whose ids begin with it. Empty leaves out none.
	ExceptPrefix string

	// Remember returns whether no other saga may have an id, until PurgeIDs deletes it. Nil returns false. It must not
	// call the store.
	Remember func(id string) bool

	// Limit is the maximum number of sagas. It must be positive.
	Limit int
}
