package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

var (
	_ journal.Store  = (*Shard)(nil)
	_ journal.Reader = (*Database)(nil)
)

// Owned says who owns a shard, as it is in the table shards.
type Owned struct {
	// Shard is the shard's number.
	Shard int

	// Epoch is the epoch under which it is owned.
	Epoch uint64

	// Member is the id of the owner.
	Member string
}

// Shard is the journal.Store of the instance that owns a shard. Open, Due, OldestOpen, Load, Append, Epoch, Identity,
// RaisePosition, MarkReplaced and EndRestore are about the shard alone, and everything else about the whole database.
//
// Once the instance doesn't own the shard under this epoch any more, Append returns journal.ErrFenced, and so do
// RaisePosition, MarkReplaced and EndRestore. All methods may be called concurrently.
type Shard struct {
	*Database

	owned    Owned
	lanes    int
	identity journal.Identity

	mu        sync.Mutex
	positions map[string]*position // of sagas that are open, by id
}

// position is what a shard knows of one of its sagas.
type position struct {
	key     int64
	last    uint64 // the number of the last turn
	created int64  // the position of the newest event when the saga was created
	state   int16
	awaits  bool // it may have rows in the table awaits
	waiting bool
}

// maxCached is the maximum number of sagas whose positions a shard caches. Each takes about 150 bytes. One that isn't
// cached costs a query.
const maxCached = 1 << 16

// Shard returns the store of a shard that an instance owns. It returns journal.ErrFenced if the instance doesn't own it
// under this epoch.
func (d *Database) Shard(ctx context.Context, owned Owned) (*Shard, error) {
	s := &Shard{Database: d, owned: owned, identity: d.identity, positions: make(map[string]*position)}
	doing := fmt.Sprintf("open shard %d", owned.Shard)
	err := d.read(ctx, doing, func(ctx context.Context, tx pgx.Tx) error {
		var previous int64
		var now time.Time
		err := tx.QueryRow(ctx, `SELECT previous_epoch, (SELECT count(*) FROM fences WHERE member = $3 AND NOT fenced),
			now() FROM shards WHERE shard = $1 AND epoch = $2 AND owner = $3`, owned.Shard, signed(owned.Epoch),
			owned.Member).Scan(&previous, &s.lanes, &now)
		if errors.Is(err, pgx.ErrNoRows) || err == nil && s.lanes == 0 {
			return fmt.Errorf("%w: %s doesn't own it under the epoch %d", journal.ErrFenced, owned.Member, owned.Epoch)
		} else if err != nil {
			return err
		}
		s.identity.Epoch, s.identity.PreviousEpoch = owned.Epoch, uint64(previous)
		s.identity.EpochAhead = owned.Epoch > journal.ClockEpoch(now.Add(journal.MaxEpochAhead))+1<<20
		return readShardIdentity(ctx, tx, owned.Shard, &s.identity)
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Epoch implements journal.Store.
func (s *Shard) Epoch() uint64 { return s.owned.Epoch }

// Identity implements journal.Store.
func (s *Shard) Identity() journal.Identity { return s.identity }

// Number returns the shard's number.
func (s *Shard) Number() int { return s.owned.Shard }

// writeOwned calls f in a transaction that excludes the loss of the shard.
func (s *Shard) writeOwned(ctx context.Context, doing string, f func(ctx context.Context, tx pgx.Tx) error) error {
	return s.write(ctx, doing, func(ctx context.Context, tx pgx.Tx) error {
		var held bool
		err := tx.QueryRow(ctx, `SELECT true FROM fences WHERE member = $1 AND lane = 0 AND NOT fenced FOR SHARE`,
			s.owned.Member).Scan(&held)
		if err == nil {
			err = tx.QueryRow(ctx, `SELECT true FROM shards WHERE shard = $1 AND epoch = $2 AND owner = $3`,
				s.owned.Shard, signed(s.owned.Epoch), s.owned.Member).Scan(&held)
		}
		if errors.Is(err, pgx.ErrNoRows) {
			return s.fenced()
		} else if err != nil {
			return err
		}
		return f(ctx, tx)
	})
}

func (s *Shard) fenced() error {
	return fmt.Errorf("%w: shard %d isn't owned under the epoch %d any more", journal.ErrFenced, s.owned.Shard,
		s.owned.Epoch)
}

// RaisePosition implements journal.Store.
func (s *Shard) RaisePosition(ctx context.Context, above uint64) (position uint64, err error) {
	if above > journal.MaxPosition {
		return 0, fmt.Errorf("raise the position of %s above %d: %w", s.name, above, journal.ErrInvalid)
	}
	err = s.writeOwned(ctx, "raise the position", func(ctx context.Context, tx pgx.Tx) error {
		if err := lockShardIdentity(ctx, tx, s.owned.Shard); err != nil {
			return err
		}
		before, err := readNumber(ctx, tx, s.owned.Shard, positionRow)
		if err != nil {
			return err
		}
		position = max(before, above) + 1
		return writeShardText(ctx, tx, s.owned.Shard, positionRow, fmt.Sprint(position))
	})
	return position, err
}

// MarkReplaced implements journal.Store.
func (s *Shard) MarkReplaced(ctx context.Context, cause string, epoch uint64) error {
	return s.writeOwned(ctx, "store that it was replaced", func(ctx context.Context, tx pgx.Tx) error {
		if err := lockShardIdentity(ctx, tx, s.owned.Shard); err != nil {
			return err
		}
		before, err := readNumber(ctx, tx, s.owned.Shard, heardEpochRow)
		if err != nil {
			return err
		}
		if epoch > before {
			if err := writeShardText(ctx, tx, s.owned.Shard, heardEpochRow, fmt.Sprint(epoch)); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, `INSERT INTO shard_identity (shard, name, value) VALUES ($1, $2, $3)
			ON CONFLICT (shard, name) DO NOTHING`, s.owned.Shard, replacedRow, encoded(cause))
		return err
	})
}

// EndRestore implements journal.Store.
func (s *Shard) EndRestore(ctx context.Context) error {
	return s.writeOwned(ctx, "end the restoration", func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM shard_identity WHERE shard = $1 AND name = $2`, s.owned.Shard, restoredRow)
		return err
	})
}

// cached returns the position of a saga, or nil if it isn't cached.
func (s *Shard) cached(saga string) *position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.positions[saga]
}

// cache keeps the position of a saga. If the cache is full, a random saga leaves it.
func (s *Shard) cache(saga string, at *position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.positions) >= maxCached {
		for other := range s.positions {
			delete(s.positions, other)
			break
		}
	}
	s.positions[saga] = at
}

// forget drops the position of a saga.
func (s *Shard) forget(saga string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.positions, saga)
}
