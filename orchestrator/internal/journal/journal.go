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

	// ErrExists says that a saga of that id, or another event of that source and id, is there already.
	ErrExists = errors.New("it exists already")

	// ErrPurged says that a saga of that id was there, has ended, and was purged.
	ErrPurged = errors.New("it was there, and is no longer kept")

	// ErrConflict says that a saga's journal isn't where the writer thought: somebody else wrote a turn.
	ErrConflict = errors.New("the journal was written by somebody else")

	// ErrLocked says that another process has the store open.
	ErrLocked = errors.New("another process has the store open")

	// ErrCorrupt says that what is stored can't be read as what was written.
	ErrCorrupt = errors.New("the store is corrupt")

	// ErrVersion says that the store was written by another version of this program: by a newer one, or, where it is only read and so can't
	// be brought up to date, by an older one.
	ErrVersion = errors.New("the store was written by another version")

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

	// Due is when the saga's next timer fires; zero when it has none. An event that the saga awaits moves it forward, see Store.Append.
	Due time.Time

	// Waiting says that nothing is outstanding but timers and awaits: the saga needs no driving until it is due.
	Waiting bool

	// Awaits are the events that the saga waits for; every row that is written replaces those of the row before. A saga that has
	// ended has none, others have at most MaxAwaits. Load and Open return them; Get and List leave them nil.
	Awaits []Await
}

// Entry is one turn to be appended, with the events that are published together with it. An entry without Saga and Turn only publishes events.
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

	// First says that this turn opens the saga's journal anew: its earlier turns are deleted. It needs a Row, and a turn behind the first.
	First bool

	// Events are published in this order, after the turn. An event whose Err is set holds nothing else of a saga's entry up. Of an entry that only
	// publishes events, all are written or none. The events of a turn that is refused aren't written.
	Events []*Event

	// Woken is set by Append when it returns nil: the ids of the sagas that are due at once because of this entry, each of them once.
	Woken []string

	// Err is set by Append when it returns nil: nil when the turn was written; ErrExists when turn 1 met a saga of that id, and ErrPurged when it met the
	// id of one that was purged and is remembered;
	// ErrConflict when the turn isn't the one after the saga's last. For an entry that only publishes events it is nil when all are there,
	// and ErrExists when one of them has an Err and none was written.
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

	// Turns are all its turns, oldest first. The first has the number 1, or that of the last entry that was marked First.
	Turns []Turn

	// Err is why the turns can't be read, an ErrCorrupt; Turns is nil then. Only Open returns such a journal, so that one
	// damaged saga doesn't hide the others.
	Err error
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

// Reader reads sagas and events. It is the part of Store that a store has when it is opened for reading.
type Reader interface {
	// Load returns one saga with its journal; ErrNotFound when there is none, ErrCorrupt when a turn is missing or unreadable.
	Load(ctx context.Context, id string) (*Journal, error)

	// Open returns a page of the sagas that haven't ended with their journals, in the order of their ids. A saga whose journal can't be read is
	// returned with its row and Err.
	Open(ctx context.Context, params OpenParams) ([]*Journal, error)

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

	EventReader

	// Epoch returns the fencing epoch of the last opening for writing. Each has a greater one than those before it. It is 0 when there
	// was none.
	Epoch() uint64
}

// Store keeps sagas. All methods may be called concurrently. A context that ends makes a call return early, with the context's
// error; for Append this leaves the outcome unknown like any other error. Two errors say that the call did nothing: ErrInvalid, for
// what no store can do, such as a page whose limit isn't positive, and ErrClosed, from every method but Epoch and Close once
// the store is closed.
type Store interface {
	Reader

	// Append writes a group of turns atomically and durably: when it returns nil, every entry without Err survives the loss of
	// the process and of power. An entry with Err wrote nothing and holds none of the others up. An empty group is written. The group holds each saga at most once. When it returns an error, it is unknown whether
	// the group was written: read the sagas again. ErrFull and ErrReadOnly tell causes that an operator can mend.
	//
	// A saga in the state RUNNING is woken, in the same transaction, as soon as both an event and an await of that event are stored, whichever came
	// first and also within one group. An event that is written makes every saga that awaits it due at its StoreTime. A row that is written with an
	// await of an event that is there already is stored as due at its UpdateTime. In both cases an earlier Due stays, and the saga's id is in the
	// entry's Woken. Nothing else reads or changes what the caller passed.
	Append(ctx context.Context, group []*Entry) error

	EventStore
	Purger
}
