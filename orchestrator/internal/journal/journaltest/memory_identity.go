package journaltest

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// Epoch implements journal.Store.
func (m *Memory) Epoch() uint64 { return m.identity.Epoch }

// Identity implements journal.Store.
func (m *Memory) Identity() journal.Identity { return m.identity }

// RaisePosition implements journal.Store.
func (m *Memory) RaisePosition(ctx context.Context, above uint64) (position uint64, err error) {
	err = m.use(ctx, "raise the position", func(c *contents) error {
		if above > journal.MaxPosition {
			return journal.ErrInvalid
		}
		c.identity.Position = max(c.identity.Position, above) + 1
		position = c.identity.Position
		return nil
	})
	return position, err
}

// MarkReplaced implements journal.Store.
func (m *Memory) MarkReplaced(ctx context.Context, cause string, _ uint64) error {
	return m.use(ctx, "store that it was replaced", func(c *contents) error {
		c.identity.Replaced = cmp.Or(c.identity.Replaced, cause)
		return nil
	})
}

// NoteRemoteChildren implements journal.Store.
func (m *Memory) NoteRemoteChildren(ctx context.Context, since time.Time) error {
	return m.use(ctx, "store that it has remote children", func(c *contents) error {
		if c.identity.RemoteChildren.IsZero() {
			c.identity.RemoteChildren = micro(since)
		}
		return nil
	})
}

// NoteTraced implements journal.Store.
func (m *Memory) NoteTraced(ctx context.Context, until time.Time) error {
	return m.use(ctx, "store up to when spans were exported", func(c *contents) error {
		c.identity.Traced = micro(until)
		return nil
	})
}

// OldestOpen implements journal.Store.
func (m *Memory) OldestOpen(ctx context.Context) (oldest time.Time, err error) {
	err = m.use(ctx, "read the oldest open saga", func(c *contents) error {
		for _, saga := range c.sagas {
			if created := saga.Row.CreateTime; !journal.Final(saga.Row.State) &&
				(oldest.IsZero() || created.Before(oldest)) {
				oldest = created
			}
		}
		return nil
	})
	return oldest, err
}

// EndRestore implements journal.Store.
func (m *Memory) EndRestore(ctx context.Context) error {
	return m.use(ctx, "end the restoration", func(c *contents) error {
		c.identity.Restored = nil
		return nil
	})
}

// Participants implements journal.Store.
func (m *Memory) Participants(ctx context.Context) (found []journal.Participant, err error) {
	err = m.use(ctx, "read participants", func(c *contents) error {
		for _, participant := range c.participants {
			found = append(found, participant)
		}
		slices.SortFunc(found, func(a, b journal.Participant) int { return cmp.Compare(a.Service, b.Service) })
		return nil
	})
	return found, err
}

// PutParticipant implements journal.Store.
func (m *Memory) PutParticipant(ctx context.Context, participant journal.Participant) error {
	return m.use(ctx, "store a participant", func(c *contents) error {
		if participant.Service == "" {
			return journal.ErrInvalid
		}
		participant.Horizon = micro(participant.Horizon)
		known := c.participants[participant.Service]
		participant.Proven = participant.Proven || known.Proven
		if known.Horizon.After(participant.Horizon) {
			participant.Horizon = known.Horizon
		}
		c.participants[participant.Service] = participant
		return nil
	})
}

// Purged implements journal.Store.
func (m *Memory) Purged(ctx context.Context, id string) (purged bool, err error) {
	err = m.use(ctx, "find a purged saga", func(c *contents) error {
		purged = c.isPurged(id)
		return nil
	})
	return purged, err
}

// Lost implements journal.Store.
func (m *Memory) Lost(ctx context.Context, params journal.LostParams) (lost []journal.LostSaga, err error) {
	err = m.use(ctx, "read lost sagas", func(c *contents) error {
		if err := params.Validate(); err != nil {
			return err
		}
		for id, saga := range c.lost {
			if id > params.After {
				lost = append(lost, saga)
			}
		}
		slices.SortFunc(lost, func(a, b journal.LostSaga) int { return cmp.Compare(a.ID, b.ID) })
		lost = lost[:min(len(lost), params.Limit)]
		return nil
	})
	return lost, err
}

// AddLost implements journal.Store.
func (m *Memory) AddLost(ctx context.Context, lost []journal.LostSaga) error {
	return m.use(ctx, "store lost sagas", func(c *contents) error {
		for _, found := range lost {
			found.EventsAfter = c.newest
			c.lost[found.ID] = journal.MergeLost(c.lost[found.ID], found)
		}
		return nil
	})
}

// RemoveLost implements journal.Store.
func (m *Memory) RemoveLost(ctx context.Context, id string) error {
	return m.use(ctx, "remove a lost saga", func(c *contents) error {
		delete(c.lost, id)
		return nil
	})
}
