package journaltest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// publish writes the events of an entry, unless its turn was refused, and wakes the sagas that await them.
func (c *contents) publish(entry *journal.Entry) {
	before, refused := len(c.events), error(nil)
	var written []*journal.Event
	for _, event := range entry.Events {
		event.Position, event.Err = 0, nil
		if entry.Err != nil {
			continue
		}
		i := slices.IndexFunc(c.events, func(other *journal.Event) bool {
			return other.Source == event.Source && other.ID == event.ID
		})
		stored := c.events
		if i < 0 {
			stored = c.past
			i = slices.IndexFunc(stored, func(other *journal.Event) bool {
				return other.Source == event.Source && other.ID == event.ID
			})
		}
		if i >= 0 {
			event.Position, event.Err = stored[i].Position, differs(stored[i], event)
			if refused == nil {
				refused = event.Err
			}
			continue
		}
		c.newest++
		event.Position = c.newest
		kept := *event
		kept.Data, kept.Time, kept.StoreTime = slices.Clone(event.Data), micro(event.Time), micro(event.StoreTime)
		c.events = append(c.events, &kept)
		written = append(written, event)
	}
	if refused != nil && entry.Saga == "" {
		c.discard(before, entry)
		entry.Err = fmt.Errorf("none of %d events was published: %w", len(entry.Events), refused)
		return
	}
	for _, event := range written {
		for _, id := range slices.Sorted(maps.Keys(c.sagas)) {
			if one := c.sagas[id]; one.awaits(event) {
				one.wake(event.StoreTime, entry)
			}
		}
	}
}

// discard deletes the events that an entry has written.
func (c *contents) discard(before int, entry *journal.Entry) {
	c.newest -= uint64(len(c.events) - before)
	c.events = c.events[:before]
	for _, event := range entry.Events {
		if event.Position > c.newest {
			event.Position = 0
		}
	}
}

// differs returns ErrExists if an event isn't the same as a stored one.
func differs(stored, event *journal.Event) error {
	if journal.Foreign(stored.Publisher, event.Publisher) {
		return fmt.Errorf("event %s of %s: %w: %w", event.ID, event.Source, journal.ErrForeign, journal.ErrExists)
	}
	if stored.Type == event.Type && stored.Subject == event.Subject && bytes.Equal(stored.Data, event.Data) {
		return nil
	}
	return fmt.Errorf("event %s of %s, with another type, subject or data: %w",
		event.ID, event.Source, journal.ErrExists)
}

// awaits returns whether one of the saga's awaits is for the event.
func (s *saga) awaits(event *journal.Event) bool {
	return slices.ContainsFunc(s.Row.Awaits, func(await journal.Await) bool { return s.matches(await, event) })
}

func (s *saga) matches(await journal.Await, event *journal.Event) bool {
	return await.Type == event.Type && await.Subject == event.Subject && event.Position > max(await.After, s.created)
}

// wake makes the saga due because of the entry, if it runs.
func (s *saga) wake(now time.Time, entry *journal.Entry) {
	if s.Row.State != treatyv1.SagaState_SAGA_STATE_RUNNING {
		return
	}
	if now = micro(now); s.Row.Due.IsZero() || now.Before(s.Row.Due) {
		s.Row.Due = now
	}
	entry.Woken = append(entry.Woken, s.Row.ID)
}

// next returns the earliest event that one of the awaits is for.
func (c *contents) next(one *saga, awaits []journal.Await) (*journal.Event, int) {
	for _, event := range c.events {
		if i := slices.IndexFunc(awaits, func(await journal.Await) bool { return one.matches(await, event) }); i >= 0 {
			return event, i
		}
	}
	return nil, 0
}

// NextEvent implements journal.Store.
func (m *Memory) NextEvent(
	ctx context.Context, saga string, awaits []journal.Await,
) (event *journal.Event, index int, err error) {
	err = m.use(ctx, "find an event", func(c *contents) error {
		one, err := c.find(saga)
		if err != nil {
			return err
		}
		if event, index = c.next(one, awaits); event != nil {
			event = cloneEvent(event)
		}
		return nil
	})
	return event, index, err
}

// Events implements journal.Store.
func (m *Memory) Events(ctx context.Context, params journal.EventsParams) ([]*journal.Event, error) {
	var events []*journal.Event
	err := m.page(ctx, "read events", params.Limit, func(c *contents) {
		for _, event := range c.events {
			if event.Position > params.After && !params.Full(events) &&
				(len(params.Types) == 0 || slices.Contains(params.Types, event.Type)) &&
				(params.Subject == "" || params.Subject == event.Subject) {
				events = append(events, cloneEvent(event))
			}
		}
	})
	return events, err
}

// EventRange implements journal.Store.
func (m *Memory) EventRange(ctx context.Context) (oldest, newest uint64, err error) {
	err = m.use(ctx, "read the range of events", func(c *contents) error {
		if len(c.events) > 0 {
			oldest, newest = c.events[0].Position, c.newest
		}
		return nil
	})
	return oldest, newest, err
}

// Consumer implements journal.Store.
func (m *Memory) Consumer(ctx context.Context, given journal.Consumer) (found journal.Consumer, err error) {
	err = m.use(ctx, "find a consumer", func(c *contents) error {
		if err := journal.ValidateConsumer(given); err != nil {
			return err
		}
		stored, known := c.consumers[given.Name]
		if found = stored; !known {
			found = given
		}
		if found.Claims(given) {
			found.Owner = given.Owner
		}
		c.consumers[given.Name] = found
		return nil
	})
	return found, err
}

// Acknowledge implements journal.Store.
func (m *Memory) Acknowledge(ctx context.Context, name string, position uint64, principal string) error {
	return m.use(ctx, "acknowledge events", func(c *contents) error {
		consumer, known := c.consumers[name]
		if !known {
			return fmt.Errorf("consumer %s: %w", name, journal.ErrNotFound)
		}
		if journal.Foreign(consumer.Owner, principal) {
			return fmt.Errorf("consumer %s: %w", name, journal.ErrForeign)
		}
		consumer.Position = max(consumer.Position, position)
		c.consumers[name] = consumer
		return nil
	})
}

// PurgeEvents implements journal.Store.
func (m *Memory) PurgeEvents(ctx context.Context, before time.Time, limit int) (deleted int, err error) {
	err = m.page(ctx, "purge events", limit, func(c *contents) {
		for deleted < limit && len(c.events) > 1 && c.events[0].StoreTime.Before(micro(before)) {
			c.past = append(c.past, c.events[0])
			c.events = c.events[1:]
			deleted++
		}
	})
	return deleted, err
}

// PurgeEventIDs implements journal.Store.
func (m *Memory) PurgeEventIDs(ctx context.Context, before time.Time, limit int) (deleted int, err error) {
	err = m.page(ctx, "purge the ids of events", limit, func(c *contents) {
		for deleted < limit && len(c.past) > 0 && c.past[0].StoreTime.Before(micro(before)) {
			c.past = c.past[1:]
			deleted++
		}
	})
	return deleted, err
}

// Purge implements journal.Store.
func (m *Memory) Purge(ctx context.Context, params journal.PurgeParams) (deleted int, err error) {
	err = m.page(ctx, "purge sagas", params.Limit, func(c *contents) {
		for id, one := range c.sagas {
			if deleted >= params.Limit || !c.isPurgeable(&one.Row, &params) {
				continue
			}
			for _, row := range c.family(id) {
				delete(c.sagas, row.ID)
				deleted++
				if params.Remember != nil && params.Remember(row.ID) {
					c.remember(row)
				}
			}
		}
	})
	return deleted, err
}

// isPurgeable returns whether Purge deletes a saga, with its family.
func (c *contents) isPurgeable(row *journal.Row, params *journal.PurgeParams) bool {
	except := params.ExceptPrefix != "" && strings.HasPrefix(row.ID, params.ExceptPrefix)
	selected := row.Parent.Compensates == params.Compensated && !except &&
		slices.Contains(params.Definitions, row.Definition) &&
		!row.EndTime.IsZero() && row.EndTime.Before(micro(params.EndedBefore))
	if params.Saga != "" {
		selected = row.ID == params.Saga && (row.Parent.Compensates || !except)
	}
	return selected && row.LocalParent == "" && !c.parentIsOpen(row.Parent) &&
		!slices.ContainsFunc(c.family(row.ID), func(row *journal.Row) bool { return !journal.Final(row.State) })
}

// family returns a saga and those that it may compensate, and so on.
func (c *contents) family(id string) []*journal.Row {
	family := []*journal.Row{&c.sagas[id].Row}
	for _, one := range c.sagas {
		if one.Row.LocalParent == id {
			family = append(family, c.family(one.Row.ID)...)
		}
	}
	return family
}

// remember keeps the id of a purged saga.
func (c *contents) remember(row *journal.Row) {
	if _, known := c.purged[row.ID]; known {
		return
	}
	c.purged[row.ID] = row.EndTime
	if row.Parent != (journal.Parent{}) && row.Parent.Start.IsZero() {
		c.purged[row.ID] = time.Time{}
	}
}

func (c *contents) isPurged(id string) bool {
	_, purged := c.purged[id]
	return purged
}

// PurgeIDs implements journal.Store.
func (m *Memory) PurgeIDs(ctx context.Context, endedBefore time.Time, limit int) (deleted int, err error) {
	err = m.page(ctx, "purge the ids of sagas", limit, func(c *contents) {
		for id, ended := range c.purged {
			if deleted < limit && !ended.IsZero() && ended.Before(micro(endedBefore)) {
				delete(c.purged, id)
				deleted++
			}
		}
	})
	return deleted, err
}

func cloneEvent(event *journal.Event) *journal.Event {
	copied := *event
	copied.Data = slices.Clone(event.Data)
	return &copied
}
