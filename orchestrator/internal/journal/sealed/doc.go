// Package sealed encrypts what a store keeps.
//
// [New] wraps any journal.Store, and [NewReader] any journal.Reader. The store inside keeps turns, events and labels
// sealed, so that its files, its write-ahead log and its backups show no payload. Ids, definitions, states, times,
// event types and correlation keys stay readable: stores search by them.
//
// # Sealing
//
// A turn or an event is sealed as a whole with XAES-256-GCM, under the primary key of a [Keys]. The id of the key
// precedes what it seals. The additional data is what the data is and where it belongs: a turn's saga and number, an
// event's source, id, type and subject. So data that was moved doesn't open.
//
// The nonce of a turn is random. That of an event is derived from the event, since a store compares an event that is
// published again with the one that it holds.
//
// # Labels
//
// The value of a label is stored as an HMAC of the label's name and value, under a key that never changes, so that a
// store can search for it. The labels themselves are sealed together, as the value of one more label.
//
// # Plain data
//
// What was stored before a store had keys stays readable. No serialized message begins with a zero byte, and everything
// that is sealed does.
package sealed
