// Package journal defines what a durable store of sagas does.
//
// # Sagas
//
// A saga has a [Row] and a [Journal]. The journal is a sequence of turns. Package machine defines what a turn means;
// a store keeps its bytes. The row is the part of a saga that a store can search: its state, its times, its labels,
// and the events that it awaits.
//
// # Events
//
// A store also keeps published events. It wakes a saga, that is, makes it due at once, when an event and an await of
// that event are both stored. Whichever comes first, no event is missed.
//
// # Stores
//
// A store implements [Store]. It is a package below this one, and passes the suite in package journaltest. Package
// stores opens the store that a URL names.
package journal
