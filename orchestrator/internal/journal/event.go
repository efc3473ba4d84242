package journal

import "time"

// Event is a published event.
type Event struct {
	// Position is its position among all events of the store, counted from 1. Events of later commits have greater
	// positions; there may be gaps. Append sets it. If the event was stored already, it is the position of that
	// event. If the event wasn't written, it is 0.
	Position uint64

	// Source and ID identify the event. Neither is empty.
	Source, ID string

	// Type is the full name of the event's message. It isn't empty.
	Type string

	// Subject is the value of the event's correlation key. An event with an empty subject can be read, but not awaited.
	Subject string

	// Time is when the event happened, according to its publisher. Stores keep microseconds, in UTC.
	Time time.Time

	// StoreTime is when the event is published, by the caller's clock. It isn't zero. Sagas that await the event are
	// due at this time, and retention counts from it. Stores keep microseconds, in UTC.
	StoreTime time.Time

	// Data is the serialized message.
	Data []byte

	// Overhead is how many bytes of Data don't count for MaxEventBytes, since they come from sealing it. It is at most
	// MaxOverhead. Only Append reads it.
	Overhead int

	// Publisher is the id of the principal that publishes the event. It is empty if it isn't known, or if the event is
	// a reply, which the orchestrator publishes.
	Publisher string

	// Err is set by Append when it returns nil. It is ErrExists if there is an event with this source and id and
	// another type, subject or data, and ErrForeign, too, if that one belongs to another principal, whatever its
	// content. It is nil if the event was written, or was stored already.
	Err error
}

// Size returns about how many bytes the event takes in memory and on the wire.
func (e *Event) Size() int {
	return eventOverhead + len(e.Source) + len(e.ID) + len(e.Type) + len(e.Subject) + len(e.Data)
}

// eventOverhead is what Event.Size counts for the fields with a fixed size.
const eventOverhead = 64

// Await is a saga's wait for an event.
type Await struct {
	// Type is the full name of the event's message. It isn't empty.
	Type string

	// Subject is the value of the event's correlation key. It isn't empty.
	Subject string

	// After is a position. Only events with greater positions count, and only those that were published after the
	// saga's first turn.
	After uint64
}

// EventsParams are the parameters of Reader.Events.
type EventsParams struct {
	// After is the position after which the page begins.
	After uint64

	// Types are the types to return. Empty means all.
	Types []string

	// Subject is the subject to return. Empty means all.
	Subject string

	// Limit is the maximum number of events. It must be positive.
	Limit int

	// MaxBytes ends a page with the event with which the page has this many bytes, by Event.Size. 0 means no limit.
	MaxBytes int
}

// Full returns whether a page is as large as it may be, so that another one may follow.
func (p *EventsParams) Full(page []*Event) bool {
	if len(page) >= p.Limit {
		return true
	}
	if p.MaxBytes <= 0 {
		return false
	}
	size := 0
	for _, event := range page {
		size += event.Size()
	}
	return size >= p.MaxBytes
}

// Consumer is a named reader of events.
type Consumer struct {
	// Name identifies the consumer.
	Name string

	// Position is the last position that the consumer acknowledged, or the one after which it starts.
	Position uint64

	// Filter says which events the consumer reads. The store doesn't interpret it.
	Filter string

	// Owner is the id of the principal that the consumer belongs to. A consumer that nobody has proved to own belongs
	// to the first one who proves who it is.
	Owner string
}

// Proven returns whether the id of a principal is that of somebody who has proved who it is: not an unknown one, nor
// one that is only known to be on this machine.
func Proven(principal string) bool {
	return principal != "" && principal != "local" && principal != "anonymous"
}

// Foreign returns whether what belongs to the owner is another principal's. An empty principal is the orchestrator
// itself, to which nothing is foreign.
func Foreign(owner, principal string) bool {
	return Proven(owner) && principal != "" && principal != owner
}

// Claims returns whether a consumer becomes that of the owner of another one with its name.
func (c Consumer) Claims(by Consumer) bool { return !Proven(c.Owner) && Proven(by.Owner) }
