package journal

import (
	"context"
	"time"
)

// Reader reads sagas and events. It is the part of Store that a store has when it is opened for reading.
//
// All methods may be called concurrently. When ctx ends, a method returns early with ctx's error. Every method except
// Epoch returns ErrClosed once the store is closed, and the database's own error when the database fails. Times are
// in UTC and have microseconds. What a method returns belongs to the caller.
type Reader interface {
	SagaReader
	EventReader
	IdentityReader
}

// SagaReader is the part of Reader about sagas.
type SagaReader interface {
	// Load returns one saga with its journal. It returns ErrNotFound if there is no such saga, ErrCorrupt if a turn is
	// missing or unreadable, and ErrKey if one is sealed with a key that is missing. A store of one shard returns
	// ErrElsewhere for a saga of another one.
	Load(ctx context.Context, id string) (*Journal, error)

	// Open returns a page of sagas that haven't ended, with their journals, in the order of their ids. A saga whose
	// journal can't be read is returned with its row and Journal.Err. Open returns ErrInvalid for invalid parameters.
	Open(ctx context.Context, params OpenParams) ([]*Journal, error)

	// Due returns up to limit timers that fire at until or before, of sagas that haven't ended. They are sorted by
	// time and then by id. Due returns ErrInvalid if limit isn't positive.
	Due(ctx context.Context, until time.Time, limit int) ([]Due, error)

	// Get returns the row of one saga, without its awaits. It returns ErrNotFound if there is no such saga, and
	// ErrCorrupt if its row is unreadable.
	Get(ctx context.Context, id string) (*Row, error)

	// List returns a page of rows, without their awaits. Their UpdateTime, also that of the filter and the order, is
	// when the saga last changed: see Row. A row with a part that can't be read, such as its labels, is
	// returned with Row.Err. List returns ErrInvalid for invalid parameters, and ErrCorrupt if the page can't be read
	// at all.
	List(ctx context.Context, params ListParams) ([]*Row, error)

	// Turns returns up to limit turns of a saga with numbers greater than after, oldest first. It returns ErrNotFound
	// if there is no such saga, ErrInvalid if limit isn't positive, and ErrKey if one of them is sealed with a key that
	// is missing.
	Turns(ctx context.Context, id string, after uint64, limit int) ([]Turn, error)

	// OldestOpen returns the earliest CreateTime of the sagas that haven't ended, or zero if there is none.
	OldestOpen(ctx context.Context) (time.Time, error)

	// Children returns a page of the rows that have a Parent, without their awaits, sorted by Parent.Saga and then by
	// ID. It returns ErrInvalid if the limit isn't positive. Sagas that were created by a version of the store that
	// had no parents have none.
	Children(ctx context.Context, params ChildrenParams) ([]*Row, error)

	// OldestChild returns the earliest CreateTime of the rows whose Parent may still send commands: its Start is known,
	// and no horizon after it was heard of its scope. It is zero if there is none.
	OldestChild(ctx context.Context) (time.Time, error)

	// Purged returns whether a saga with the id has ended, was purged, and is remembered.
	Purged(ctx context.Context, id string) (bool, error)
}

// EventReader is the part of Reader about events.
type EventReader interface {
	// NextEvent returns the earliest event that one of a saga's awaits is for, and the index of that await; nil if
	// there is no such event. It returns ErrNotFound if there is no such saga, and ErrKey if the event is sealed with a
	// key that is missing.
	NextEvent(ctx context.Context, saga string, awaits []Await) (event *Event, index int, err error)

	// Events returns a page of events, sorted by position. It returns ErrInvalid if the limit isn't positive, and
	// ErrKey if one of them is sealed with a key that is missing.
	Events(ctx context.Context, params EventsParams) ([]*Event, error)

	// EventRange returns the positions of the oldest and the newest stored event. Both are 0 if none was ever stored.
	EventRange(ctx context.Context) (oldest, newest uint64, err error)
}

// IdentityReader is the part of Reader about the store itself, and about what it knows of others.
type IdentityReader interface {
	// Epoch returns the fencing epoch of the last opening for writing, which is greater than those of all earlier
	// ones. It is 0 if there was none.
	Epoch() uint64

	// Identity returns what the store said about itself when it was opened.
	Identity() Identity

	// Participants returns what the store remembers about participants, sorted by service.
	Participants(ctx context.Context) ([]Participant, error)

	// Lost returns a page of the sagas that participants know and the store doesn't. It returns ErrInvalid if the limit
	// isn't positive.
	Lost(ctx context.Context, params LostParams) ([]LostSaga, error)
}

// Store stores sagas and events. What Reader promises holds for all its methods.
//
// When a method that writes returns an error other than ErrInvalid, ErrClosed and ErrNotFound, it is unknown whether
// it wrote: the failure may have come after the commit. This holds for ctx's error, too. The caller reads the sagas
// again, or repeats a call that may be repeated.
type Store interface {
	Reader
	SagaWriter
	EventWriter
	IdentityWriter
}

// Size is how much room a store takes.
type Size struct {
	// File is the size of the store's file in bytes, and Log that of its write-ahead log. Zero is unknown.
	File, Log int64
}

// SagaWriter is the part of Store about sagas.
type SagaWriter interface {
	// Append writes a group of entries atomically and durably: when it returns nil, every entry whose Err is nil
	// survives the loss of the process and of power. An entry with Err wrote nothing, and doesn't keep the others
	// from being written. A group holds each saga at most once. An empty group does nothing. The store keeps no
	// reference to what the caller passed, and changes only the fields of Entry and Event that say so.
	//
	// Append wakes each saga in the state RUNNING for which an event and an await of it are now both stored,
	// whichever came first, and also within one group. An event makes every saga that awaits it due at the event's
	// StoreTime. A row with an await of an event that is stored already becomes due at the row's UpdateTime. An
	// earlier Due stays. The id of the saga is in the entry's Woken.
	//
	// Append returns ErrInvalid if an entry is invalid; then it wrote nothing. It returns ErrFull and ErrReadOnly for
	// causes that an operator can remove.
	Append(ctx context.Context, group []*Entry) error

	// Purge deletes up to params.Limit sagas that have ended, with their journals and labels, and with the sagas of
	// which they are the LocalParent. It returns how many it deleted in all, also together with an error. The id of a
	// deleted saga can be used again, unless params.Remember returns true for it: such an id is stored until PurgeIDs
	// deletes it. Purge works in small transactions, so others can write in between. It returns ErrInvalid if the limit
	// isn't positive. The call may be repeated.
	Purge(ctx context.Context, params PurgeParams) (int, error)

	// PurgeIDs deletes up to limit remembered ids of purged sagas that ended before the given time. An id stays forever
	// if Purge can't know when the saga's parent is over: that of a row whose Parent has no Start, or if a version of
	// the store remembered it that kept no times. Otherwise PurgeIDs is like Purge.
	PurgeIDs(ctx context.Context, endedBefore time.Time, limit int) (int, error)
}

// EventWriter is the part of Store about events. Append publishes them.
type EventWriter interface {
	// Consumer returns the consumer with the name of given, or stores given durably if there is none. A consumer that
	// given claims (see Consumer.Claims) gets its owner. It returns ErrInvalid if the name is empty or a text isn't
	// UTF-8. The call may be repeated.
	Consumer(ctx context.Context, given Consumer) (Consumer, error)

	// Acknowledge moves a consumer forward to a position, durably, for a principal; an empty one is the orchestrator
	// itself. A position before its own changes nothing. It returns ErrNotFound if there is no such consumer, and
	// ErrForeign if it is another principal's. The call may be repeated.
	Acknowledge(ctx context.Context, name string, position uint64, principal string) error

	// PurgeEvents deletes up to limit events, in the order of their positions, until it finds one whose StoreTime
	// isn't before the given time. It returns how many it deleted, also together with an error. The newest event
	// stays, so that positions never start over. PurgeEvents works in small transactions, so others can write in
	// between. It returns ErrInvalid if limit isn't positive. The call may be repeated.
	//
	// The ids of the deleted events are kept: an event that is published again stays the same event, or another one
	// with a used id, as long as PurgeEventIDs hasn't deleted its id.
	PurgeEvents(ctx context.Context, before time.Time, limit int) (int, error)

	// PurgeEventIDs deletes up to limit ids of deleted events, in the order of their positions, until it finds one
	// whose event's StoreTime isn't before the given time. Otherwise it is like PurgeEvents.
	PurgeEventIDs(ctx context.Context, before time.Time, limit int) (int, error)
}

// IdentityWriter is the part of Store about the store itself, and about what it knows of others.
type IdentityWriter interface {
	// RaisePosition raises a number durably, to one above both its own value and the given one, and returns it. It is
	// told to participants, so that an older copy of the store is recognized by its lower number. It returns ErrInvalid
	// if the given number is above MaxPosition.
	RaisePosition(ctx context.Context, above uint64) (uint64, error)

	// MarkReplaced stores durably that another store has taken over, why, and the epoch that a participant has heard
	// from that one, or 0 if it isn't known. The first cause and the highest epoch stay. Identity returns the cause
	// from the next opening on. Once this store is restored, its epochs are higher. The call may be repeated.
	MarkReplaced(ctx context.Context, cause string, epoch uint64) error

	// EndRestore stores durably that the store was compared with its participants since it was restored. The call may
	// be repeated.
	EndRestore(ctx context.Context) error

	// PutParticipant stores what to remember about a participant's service, beside what was stored before: one that was
	// proven stays proven, and the latest horizon stays. It returns ErrInvalid if the service is empty. The call may be
	// repeated.
	PutParticipant(ctx context.Context, participant Participant) error

	// NoteRemoteChildren stores durably since when other orchestrators have started sagas that they may compensate. The
	// first time stays. The call may be repeated.
	NoteRemoteChildren(ctx context.Context, since time.Time) error

	// NoteTraced stores durably up to when all spans of the store's sagas were exported. Zero means that nobody exports
	// them. The last time stays. The call may be repeated.
	NoteTraced(ctx context.Context, until time.Time) error

	// Hear stores durably what was heard of a scope, merged with what was heard before, and returns that. What it
	// returns is zero if nothing was heard before. It returns ErrInvalid if told is invalid. The call may be repeated.
	Hear(ctx context.Context, told HeardScope) (before HeardScope, err error)

	// AddLost adds lost sagas. Commands of a saga that is lost already are added to it, see MergeLost. The call may be
	// repeated. A saga is no longer lost once Append has written its first turn. It can receive the events that were
	// stored since it was added, as if it had been created then.
	AddLost(ctx context.Context, lost []LostSaga) error

	// RemoveLost removes a lost saga. The call may be repeated.
	RemoveLost(ctx context.Context, id string) error
}
