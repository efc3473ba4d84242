package journal

import (
	"context"
	"time"
)

// Event is a published event as it is stored.
type Event struct {
	// Position is its place among all events of the store, counted from 1. Later commits have greater positions; there may be gaps. Append sets
	// it; for an event that was there already it is that one's, for one that wasn't written 0.
	Position uint64

	// Source and ID tell it apart from every other event. Neither is empty.
	Source, ID string

	// Type is the full name of its message; it isn't empty.
	Type string

	// Subject is the value of its correlation key. An event without one can be read, and not be awaited.
	Subject string

	// Time is when it happened, as its publisher says; kept to the microsecond, in UTC.
	Time time.Time

	// StoreTime is when it is published, as the caller's clock says; it isn't zero. It is kept to the microsecond, in UTC. Sagas that await the
	// event are due from then on, and retention counts from it.
	StoreTime time.Time

	// Data is the serialized message. The store doesn't keep the slice.
	Data []byte

	// Err is set by Append when it returns nil: ErrExists when an event of this source and id is there already with another type,
	// subject or data; nil when the event was written, or is there already just so.
	Err error
}

// Await is a wait of a saga for the next event of one key.
type Await struct {
	// Type is the full name of the event's message; it isn't empty.
	Type string

	// Subject is the value of its correlation key; it isn't empty.
	Subject string

	// After is the position behind which an event counts. An event also counts only when it was written after the saga's first
	// turn; the store knows where that was.
	After uint64
}

// EventsParams asks for a page of events.
type EventsParams struct {
	// After is the position behind which events are returned.
	After uint64

	// Types are the wanted types; empty for all.
	Types []string

	// Subject is the wanted subject; empty for all.
	Subject string

	// Limit is how many events are returned at the most; it is positive.
	Limit int
}

// Consumer is a reader of events with a name.
type Consumer struct {
	// Name tells it apart.
	Name string

	// Position is the one that it acknowledged last, or where it begins.
	Position uint64

	// Filter says which events it reads, in words of its maker's.
	Filter string
}

// EventReader reads events. It is a part of Reader, whose general promises hold.
type EventReader interface {
	// NextEvent returns the earliest event that one of the awaits of a saga is for, and which of them; nil when there is none.
	// ErrNotFound when there is no such saga.
	NextEvent(ctx context.Context, saga string, awaits []Await) (event *Event, index int, err error)

	// Events returns a page of events, by position.
	Events(ctx context.Context, params EventsParams) ([]*Event, error)

	// EventRange returns the positions of the oldest and of the newest event that are kept; both are 0 when none was ever written.
	EventRange(ctx context.Context) (oldest, newest uint64, err error)
}

// EventStore keeps consumers of events. It is a part of Store, whose general promises hold.
type EventStore interface {
	// Consumer returns the consumer of a name, which isn't empty. One that isn't known is made as it is given, durably; of one that is
	// known, only the name counts.
	Consumer(ctx context.Context, given Consumer) (Consumer, error)

	// Acknowledge moves a consumer forward, durably; a position behind its own changes nothing. ErrNotFound when there is no such
	// consumer. When it returns another error, it is unknown whether the consumer was moved.
	Acknowledge(ctx context.Context, name string, position uint64) error
}
