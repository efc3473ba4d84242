// Package journal says what a durable store of sagas does. It knows rows, turns and times; what a turn means is not its concern.
// The stores are its sub-packages; journaltest holds the suite that every one of them passes.
package journal

import (
	"context"
	"errors"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Causes of a store's errors, to be compared with errors.Is.
var (
	// ErrNotFound says that there is certainly no such saga. A driver's error is never read as this one.
	ErrNotFound = errors.New("no such saga")

	// ErrExists says that a saga of that id is there already.
	ErrExists = errors.New("a saga of this id exists")

	// ErrConflict says that a saga's journal isn't where the writer thought: somebody else wrote a turn.
	ErrConflict = errors.New("the journal was written by somebody else")

	// ErrLocked says that another process has the store open.
	ErrLocked = errors.New("another process has the store open")

	// ErrCorrupt says that what is stored can't be read as what was written.
	ErrCorrupt = errors.New("the store is corrupt")

	// ErrVersion says that the store was written by a newer version of this program.
	ErrVersion = errors.New("the store was written by a newer version")

	// ErrFull says that there is no room left.
	ErrFull = errors.New("no space left")

	// ErrReadOnly says that the store can't be written.
	ErrReadOnly = errors.New("the store is read-only")
)

// Row is what can be found and listed of a saga without reading its journal.
type Row struct {
	// ID is the last part of the saga's name, "sagas/{id}".
	ID string

	// Definition is the saga definition, e.g. "acme.card.v1.CardSagas/IssueCard". It never changes.
	Definition string

	// State is where the saga stands.
	State treatyv1.SagaState

	// Labels are what it can be searched by. They are written with the first turn and never change.
	Labels map[string]string

	// CreateTime never changes. UpdateTime is when the row was written last. EndTime is zero until the state is final.
	// Times are kept to the microsecond, in UTC; what is finer is cut off.
	CreateTime, UpdateTime, EndTime time.Time

	// Due is when the saga's next timer fires; zero when it has none.
	Due time.Time
}

// Entry is one turn to be appended.
type Entry struct {
	// Saga is the saga's id.
	Saga string

	// Turn is the turn's number in its saga, counted from 1.
	Turn uint64

	// Data is the serialized treaty.v1.Turn. The store doesn't keep the slice.
	Data []byte

	// Row is the saga's row from now on. With turn 1 it is needed and creates the saga; later nil leaves the row as
	// it is, and what never changes isn't read.
	Row *Row

	// Err is set by Append when it returns nil: nil when the turn was written; ErrExists when turn 1 met a saga of that id;
	// ErrConflict when the turn isn't the one after the saga's last.
	Err error
}

// Turn is one stored turn.
type Turn struct {
	// Number is its place in the saga's journal, counted from 1.
	Number uint64

	// Data is the serialized treaty.v1.Turn; it belongs to the caller.
	Data []byte
}

// Journal is one saga as it is stored.
type Journal struct {
	// Row is the saga's row.
	Row Row

	// Turns are all its turns, oldest first.
	Turns []Turn
}

// Due is a timer of one saga.
type Due struct {
	// Saga is the saga's id.
	Saga string

	// Time is when it fires.
	Time time.Time
}

// ListParams asks for a page of rows.
type ListParams struct {
	// Filter selects rows; nil selects all.
	Filter *Filter

	// Order is the order of the rows; ties are broken by id in the same direction.
	Order Order

	// After is the last row of the page before; nil for the first page. Only its ID and the ordered time are read.
	After *Row

	// Limit is how many rows are returned at the most; it is positive.
	Limit int
}

// Order is an order of rows.
type Order struct {
	// By is the time by which rows are ordered.
	By OrderField

	// Descending puts the newest first.
	Descending bool
}

// OrderField is a time by which rows are ordered.
type OrderField int

// The times by which rows are ordered.
const (
	OrderByCreateTime OrderField = iota
	OrderByUpdateTime
)

// Store keeps sagas. All methods may be called concurrently. A context that ends makes a call return early, with the context's
// error; for Append this leaves the outcome unknown like any other error. Two errors say that the call did nothing: ErrInvalid, for
// what no store can do, such as a page whose limit isn't positive, and ErrClosed, from every method but Epoch and Close once
// the store is closed.
type Store interface {
	// Append writes a group of turns atomically and durably: when it returns nil, every entry without Err survives the loss of
	// the process and of power. An entry with Err wrote nothing and holds none of the others up. An empty group is written. The group holds each saga at most once. When it returns an error, it is unknown whether
	// the group was written: read the sagas again. ErrFull and ErrReadOnly tell causes that an operator can mend.
	Append(ctx context.Context, group []*Entry) error

	// Load returns one saga with its journal; ErrNotFound when there is none, ErrCorrupt when a turn is missing or unreadable.
	Load(ctx context.Context, id string) (*Journal, error)

	// Open returns up to limit sagas in the states RUNNING and COMPENSATING with their journals, in the order of their ids,
	// beginning behind the id after.
	Open(ctx context.Context, after string, limit int) ([]*Journal, error)

	// Due returns up to limit timers that fire at or before until, earliest first and then by id, of sagas in every state that
	// isn't final.
	Due(ctx context.Context, until time.Time, limit int) ([]Due, error)

	// Get returns one saga's row; ErrNotFound when there is none.
	Get(ctx context.Context, id string) (*Row, error)

	// List returns a page of rows.
	List(ctx context.Context, params ListParams) ([]*Row, error)

	// Turns returns up to limit turns of a saga with numbers greater than after, oldest first; ErrNotFound when there is no such
	// saga.
	Turns(ctx context.Context, id string, after uint64, limit int) ([]Turn, error)

	// Epoch is the number of this opening of the store: each one has a greater number than the ones before it.
	Epoch() uint64

	// Close waits for what is under way and closes the store; closing again does nothing.
	Close() error
}
