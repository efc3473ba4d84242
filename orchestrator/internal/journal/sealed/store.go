package sealed

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

var _ journal.Store = (*Store)(nil)

// Store is a journal.Store that seals what the store inside it keeps. What it doesn't override holds no payload.
type Store struct {
	*Reader
	journal.SagaWriter
	journal.EventWriter
	journal.IdentityWriter

	// purgeIDs is held while ids of events are purged, and, for reading, while it is found out whether an event is one
	// that was published before.
	purgeIDs sync.RWMutex
}

// New returns a store that seals what inside keeps.
func New(inside journal.Store, keys *Keys) *Store {
	return &Store{Reader: NewReader(inside, keys), SagaWriter: inside, EventWriter: inside, IdentityWriter: inside}
}

// Append implements journal.Store.
func (s *Store) Append(ctx context.Context, group []*journal.Entry) error {
	for _, entry := range group {
		if err := entry.Validate(); err != nil {
			return fmt.Errorf("append: %w", err)
		}
	}
	sealed, err := s.keys.ring().sealGroup(group)
	if err != nil {
		return fmt.Errorf("append: %w", err)
	}
	if err := s.SagaWriter.Append(ctx, sealed); err != nil {
		return err
	}
	for i, entry := range group {
		entry.Woken, entry.Err = sealed[i].Woken, sealed[i].Err
		refused := false
		for j, event := range entry.Events {
			event.Position, event.Err = sealed[i].Events[j].Position, sealed[i].Events[j].Err
			refused = refused || errors.Is(event.Err, journal.ErrExists)
		}
		if refused {
			if err := s.resolve(ctx, entry); err != nil {
				return err
			}
		}
	}
	return nil
}

// sealGroup returns a copy of a group in which everything is sealed.
func (r *ring) sealGroup(group []*journal.Entry) ([]*journal.Entry, error) {
	size, events := 0, 0
	for _, entry := range group {
		size += len(entry.Data) + overhead
		events += len(entry.Events)
	}
	data := make([]byte, 0, size)
	entries, pointers := make([]journal.Entry, len(group)), make([]*journal.Entry, len(group))
	copies, eventPointers := make([]journal.Event, events), make([]*journal.Event, events)
	for i, entry := range group {
		sealed := &entries[i]
		*sealed = *entry
		pointers[i] = sealed
		if entry.Saga != "" {
			from := len(data)
			var err error
			if data, err = r.seal(data, entry.Data, turnPlace(entry.Saga, entry.Turn)); err != nil {
				return nil, err
			}
			sealed.Data, sealed.Overhead = data[from:len(data):len(data)], entry.Overhead+overhead
		}
		if entry.Row != nil && len(entry.Row.Labels) > 0 {
			row := *entry.Row
			row.Labels = nil
			if entry.Turn == 1 { // later turns don't change them
				var err error
				if row.Labels, err = r.sealLabels(entry.Saga, entry.Row.Labels); err != nil {
					return nil, err
				}
			}
			sealed.Row = &row
		}
		if len(entry.Events) == 0 {
			continue
		}
		sealed.Events = eventPointers[:len(entry.Events):len(entry.Events)]
		for j, event := range entry.Events {
			envelope, err := r.sealEvent(r.primary, event)
			if err != nil {
				return nil, err
			}
			copies[j] = *event
			copies[j].Data, copies[j].Overhead = envelope, event.Overhead+overhead
			sealed.Events[j] = &copies[j]
		}
		copies, eventPointers = copies[len(entry.Events):], eventPointers[len(entry.Events):]
	}
	return pointers, nil
}

// resolve looks at the events of an entry that the store takes for others with the same ids. An event that was
// published before under an older key, or before there were keys, is the same event, but the store inside can't know.
func (s *Store) resolve(ctx context.Context, entry *journal.Entry) error {
	s.purgeIDs.RLock()
	defer s.purgeIDs.RUnlock()
	again := journal.Entry{Events: make([]*journal.Event, len(entry.Events))}
	same := true
	keys := s.keys.ring()
	for i, event := range entry.Events {
		envelope, err := keys.sealEvent(keys.primary, event)
		if err != nil {
			return err
		}
		if errors.Is(event.Err, journal.ErrExists) {
			if envelope, err = s.published(ctx, keys, entry, event); err != nil {
				return err
			}
		}
		if envelope == nil {
			same = false
			continue
		}
		one := *event
		one.Data, one.Overhead = envelope, overhead
		again.Events[i] = &one
	}
	if entry.Saga != "" || !same {
		// The entry with a turn was written without the events that were stored before.
		return nil
	}
	// Nothing of the entry was written.
	if err := s.SagaWriter.Append(ctx, []*journal.Entry{&again}); err != nil {
		return err
	}
	entry.Woken, entry.Err = append(entry.Woken, again.Woken...), again.Err
	for i, event := range entry.Events {
		event.Position, event.Err = again.Events[i].Position, again.Events[i].Err
	}
	return nil
}

// published looks for the form in which an event is stored that the store has refused, and sets the event's Err. It
// returns nil if the stored event is another one. The caller holds purgeIDs, so that a stored id stays stored, and an
// attempt to publish it again writes nothing.
func (s *Store) published(
	ctx context.Context, keys *ring, entry *journal.Entry, event *journal.Event,
) (data []byte, err error) {
	if event.Position == 0 {
		return nil, nil // the other event is one of the same entry, which wasn't written
	}
	forms := make([][]byte, 0, len(keys.keys)+1)
	for id := range keys.keys {
		if id == keys.primary {
			continue
		}
		envelope, err := keys.sealEvent(id, event)
		if err != nil {
			return nil, err
		}
		forms = append(forms, envelope)
	}
	// The form with the primary key comes first: if the id was purged since, it is published with that one.
	first, err := keys.sealEvent(keys.primary, event)
	if err != nil {
		return nil, err
	}
	for _, form := range append([][]byte{first}, append(forms, event.Data)...) {
		one := *event
		one.Data, one.Overhead = form, overhead
		if !isSealed(form) {
			one.Overhead = 0
		}
		attempt := journal.Entry{Events: []*journal.Event{&one}}
		if err := s.SagaWriter.Append(ctx, []*journal.Entry{&attempt}); err != nil {
			return nil, err
		}
		if attempt.Err == nil {
			entry.Woken = append(entry.Woken, attempt.Woken...)
			event.Position, event.Err = one.Position, nil
			return form, nil
		}
	}
	event.Err = s.unlessMissing(ctx, event)
	return nil, nil
}

// unlessMissing returns the Err of an event, or a *journal.KeyError if the stored event can't be compared with it.
func (s *Store) unlessMissing(ctx context.Context, event *journal.Event) error {
	stored, err := s.Reader.Reader.Events(ctx, journal.EventsParams{After: event.Position - 1, Limit: 1})
	if err == nil && len(stored) > 0 && stored[0].Position == event.Position {
		if err := s.openEvent(stored[0]); errors.Is(err, journal.ErrKey) {
			return err
		}
	}
	return event.Err
}

// PurgeEventIDs implements journal.Store.
func (s *Store) PurgeEventIDs(ctx context.Context, before time.Time, limit int) (int, error) {
	s.purgeIDs.Lock()
	defer s.purgeIDs.Unlock()
	return s.EventWriter.PurgeEventIDs(ctx, before, limit)
}
