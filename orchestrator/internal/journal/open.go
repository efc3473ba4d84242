package journal

// OpenParams asks for a page of sagas with their journals.
type OpenParams struct {
	// After is the id behind which the page begins.
	After string

	// Limit is how many sagas are returned at the most; it is positive.
	Limit int

	// Which says which sagas are wanted; the default is Driven.
	Which OpenSagas
}

// OpenSagas says which of the sagas that haven't ended are meant.
type OpenSagas int

// The sagas that haven't ended.
const (
	// Driven: those in the states RUNNING and COMPENSATING that don't merely wait.
	Driven OpenSagas = iota

	// Unended: all, in the states RUNNING, COMPENSATING and SUSPENDED.
	Unended
)
