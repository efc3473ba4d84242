package postgres

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// The names in the table identity.
const (
	nameRow       = "name"
	storeIDRow    = "store_id"
	backupTimeRow = "backup_time" // the database is a backup, of this time
	remoteRow     = "remote_children"
	tracedRow     = "traced"
)

// The names in the table shard_identity.
const (
	positionRow   = "position"
	replacedRow   = "replaced"
	heardEpochRow = "heard_epoch" // of the store that has taken over
	restoredRow   = "restored"    // a journal.Restored as JSON
)

// identify makes the store belong to the name of the opening if it is new, and returns what it says about itself.
func identify(ctx context.Context, conn *pgx.Conn, opening journal.Opening) (identity journal.Identity, err error) {
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := schemaVersion(ctx, tx, " FOR UPDATE"); err != nil { // one at a time
			return err
		}
		if text, backup, err := readText(ctx, tx, backupTimeRow); err != nil {
			return err
		} else if backup {
			return fmt.Errorf("%w of %s; restore it first, with the subcommand restore of the orchestrator",
				journal.ErrBackup, text)
		}
		if identity, err = readIdentity(ctx, tx); err != nil {
			return err
		}
		if identity.StoreID != "" {
			if identity.Name != opening.Name {
				return fmt.Errorf("%w: it belongs to the one named %q, and this one is named %q; start it with that "+
					"name, or with another store", journal.ErrName, identity.Name, opening.Name)
			}
			return nil
		}
		var raw [16]byte
		_, _ = rand.Read(raw[:]) // never fails
		identity.Name, identity.StoreID = opening.Name, hex.EncodeToString(raw[:])
		if err := writeText(ctx, tx, storeIDRow, identity.StoreID); err != nil {
			return err
		}
		return writeText(ctx, tx, nameRow, identity.Name)
	})
	return identity, err
}

// readIdentity returns what the store says about itself, without what a shard says.
func readIdentity(ctx context.Context, q querier) (identity journal.Identity, err error) {
	var epoch int64
	if err := q.QueryRow(ctx, `SELECT coalesce(max(epoch), 0) FROM shards`).Scan(&epoch); err != nil {
		return identity, err
	}
	identity.Epoch = uint64(epoch)
	for name, into := range map[string]*string{nameRow: &identity.Name, storeIDRow: &identity.StoreID} {
		if *into, _, err = readText(ctx, q, name); err != nil {
			return identity, err
		}
	}
	if identity.RemoteChildren, err = readTime(ctx, q, remoteRow); err != nil {
		return identity, fmt.Errorf("since when it has remote children: %w", err)
	}
	if identity.Traced, err = readTime(ctx, q, tracedRow); err != nil {
		return identity, fmt.Errorf("up to when its spans were exported: %w", err)
	}
	return identity, nil
}

// readShardIdentity adds what is said of a shard.
func readShardIdentity(ctx context.Context, q querier, shard int, identity *journal.Identity) error {
	var text string
	var known bool
	var err error
	if identity.Position, err = readNumber(ctx, q, shard, positionRow); err != nil {
		return fmt.Errorf("its position: %w", err)
	}
	if identity.Replaced, _, err = readShardText(ctx, q, shard, replacedRow); err != nil {
		return err
	}
	if text, known, err = readShardText(ctx, q, shard, restoredRow); err != nil || !known {
		return err
	}
	identity.Restored = new(journal.Restored)
	if err := json.Unmarshal([]byte(text), identity.Restored); err != nil {
		return fmt.Errorf("%w: how it was restored: %w", journal.ErrCorrupt, err)
	}
	return nil
}

func readNumber(ctx context.Context, q querier, shard int, name string) (uint64, error) {
	text, known, err := readShardText(ctx, q, shard, name)
	if err != nil || !known {
		return 0, err
	}
	number, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", journal.ErrCorrupt, err)
	}
	return min(number, math.MaxInt64), nil
}

// readTime returns a time in the table identity, or zero.
func readTime(ctx context.Context, q querier, name string) (time.Time, error) {
	text, known, err := readText(ctx, q, name)
	if err != nil || !known {
		return time.Time{}, err
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: %w", journal.ErrCorrupt, err)
	}
	return at, nil
}

func timeText(at time.Time) string {
	return at.UTC().Truncate(time.Microsecond).Format(time.RFC3339Nano)
}

func readText(ctx context.Context, q querier, name string) (text string, known bool, err error) {
	return oneText(q.QueryRow(ctx, `SELECT value FROM identity WHERE name = $1`, name))
}

func readShardText(ctx context.Context, q querier, shard int, name string) (text string, known bool, err error) {
	return oneText(q.QueryRow(ctx, `SELECT value FROM shard_identity WHERE shard = $1 AND name = $2`, shard, name))
}

func oneText(row pgx.Row) (text string, known bool, err error) {
	switch err := row.Scan(&text); {
	case errors.Is(err, pgx.ErrNoRows):
		return "", false, nil
	case err != nil:
		return "", false, err
	}
	return decoded(text), true, nil
}

func writeText(ctx context.Context, tx pgx.Tx, name, text string) error {
	_, err := tx.Exec(ctx, `INSERT INTO identity (name, value) VALUES ($1, $2)
		ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, encoded(text))
	return err
}

func writeShardText(ctx context.Context, tx pgx.Tx, shard int, name, text string) error {
	_, err := tx.Exec(ctx, `INSERT INTO shard_identity (shard, name, value) VALUES ($1, $2, $3)
		ON CONFLICT (shard, name) DO UPDATE SET value = excluded.value`, shard, name, encoded(text))
	return err
}

// lockShardIdentity makes transactions about a shard's identity follow each other.
func lockShardIdentity(ctx context.Context, tx pgx.Tx, shard int) error {
	_, err := tx.Exec(ctx, `INSERT INTO shard_identity (shard, name, value) VALUES ($1, 'lock', '')
		ON CONFLICT (shard, name) DO UPDATE SET value = excluded.value`, shard)
	return err
}

// NoteRemoteChildren implements journal.Store.
func (d *Database) NoteRemoteChildren(ctx context.Context, since time.Time) error {
	return d.write(ctx, "store that it has remote children", func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO identity (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING`,
			remoteRow, timeText(since))
		return err
	})
}

// NoteTraced implements journal.Store.
func (d *Database) NoteTraced(ctx context.Context, until time.Time) error {
	return d.write(ctx, "store up to when spans were exported", func(ctx context.Context, tx pgx.Tx) error {
		if until.IsZero() {
			_, err := tx.Exec(ctx, `DELETE FROM identity WHERE name = $1`, tracedRow)
			return err
		}
		return writeText(ctx, tx, tracedRow, timeText(until))
	})
}

// Participants implements journal.Store.
func (d *Database) Participants(ctx context.Context) (found []journal.Participant, err error) {
	err = d.query(ctx, "read participants", func(ctx context.Context, q querier) error {
		rows, err := q.Query(ctx, `SELECT service, proven, horizon FROM participants ORDER BY service`)
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (p journal.Participant, err error) {
			var horizon *int64
			err = row.Scan(&p.Service, &p.Proven, &horizon)
			p.Service, p.Horizon = decoded(p.Service), timeOf(horizon)
			return p, err
		})
		return err
	})
	return found, err
}

// PutParticipant implements journal.Store.
func (d *Database) PutParticipant(ctx context.Context, participant journal.Participant) error {
	if participant.Service == "" {
		return fmt.Errorf("store a participant in %s: %w: it has no service", d.name, journal.ErrInvalid)
	}
	return d.write(ctx, "store a participant", func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO participants (service, proven, horizon) VALUES ($1, $2, $3)
			ON CONFLICT (service) DO UPDATE SET proven = participants.proven OR excluded.proven,
				horizon = greatest(participants.horizon, excluded.horizon)`,
			encoded(participant.Service), participant.Proven, microOrNil(participant.Horizon))
		return err
	})
}

// Lost implements journal.Store.
func (d *Database) Lost(ctx context.Context, params journal.LostParams) (lost []journal.LostSaga, err error) {
	if err := params.Validate(); err != nil {
		return nil, fmt.Errorf("read lost sagas in %s: %w", d.name, err)
	}
	err = d.query(ctx, "read lost sagas", func(ctx context.Context, q querier) error {
		rows, err := q.Query(ctx, `SELECT data FROM lost WHERE id > $1 ORDER BY id LIMIT $2`, encoded(params.After),
			params.Limit)
		if err != nil {
			return err
		}
		lost, err = pgx.CollectRows(rows, lostIn)
		return err
	})
	return lost, err
}

func lostIn(row pgx.CollectableRow) (saga journal.LostSaga, err error) {
	var text string
	if err := row.Scan(&text); err != nil {
		return saga, err
	}
	if err := json.Unmarshal([]byte(text), &saga); err != nil {
		return saga, fmt.Errorf("%w: a lost saga: %w", journal.ErrCorrupt, err)
	}
	return saga, nil
}

// AddLost implements journal.Store.
func (d *Database) AddLost(ctx context.Context, lost []journal.LostSaga) error {
	return d.write(ctx, "store lost sagas", func(ctx context.Context, tx pgx.Tx) error {
		// Positions must not grow meanwhile, and two transactions must not merge the same saga.
		var newest int64
		if err := tx.QueryRow(ctx, `SELECT newest FROM event_counter FOR UPDATE`).Scan(&newest); err != nil {
			return err
		}
		for _, found := range lost {
			rows, err := tx.Query(ctx, `SELECT data FROM lost WHERE id = $1`, encoded(found.ID))
			if err != nil {
				return err
			}
			known, err := pgx.CollectOneRow(rows, lostIn)
			if errors.Is(err, pgx.ErrNoRows) {
				found.EventsAfter = uint64(newest)
			} else if err != nil {
				return err
			}
			merged := journal.MergeLost(known, found)
			data, err := json.Marshal(merged)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `INSERT INTO lost (id, events_after, data) VALUES ($1, $2, $3)
				ON CONFLICT (id) DO UPDATE SET data = excluded.data`, encoded(found.ID), signed(merged.EventsAfter),
				string(data)); err != nil {
				return err
			}
		}
		return nil
	})
}

// RemoveLost implements journal.Store.
func (d *Database) RemoveLost(ctx context.Context, id string) error {
	return d.write(ctx, "remove a lost saga", func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM lost WHERE id = $1`, encoded(id))
		return err
	})
}

// signed converts a position to PostgreSQL's integers. No stored position is greater than the result.
func signed(position uint64) int64 { return int64(min(position, math.MaxInt64)) }

// timeOf returns a time from how it is stored.
func timeOf(micro *int64) time.Time {
	if micro == nil {
		return time.Time{}
	}
	return time.UnixMicro(*micro).UTC()
}

// microOrNil returns a time as it is stored.
func microOrNil(at time.Time) *int64 {
	if at.IsZero() {
		return nil
	}
	micro := at.UnixMicro()
	return &micro
}
