package sqlite

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// The names in the table identity.
const (
	nameRow       = "name"
	storeIDRow    = "store_id"
	positionRow   = "position"
	replacedRow   = "replaced"
	heardEpochRow = "heard_epoch" // of the store that has taken over
	backupTimeRow = "backup_time" // the store is a backup, of this time
	restoredRow   = "restored"    // a journal.Restored as JSON
	remoteRow     = "remote_children"
	tracedRow     = "traced"
)

// identify begins a new epoch, and makes the store belong to the name of the opening if it is new.
func (w *writer) identify(opening journal.Opening) (identity journal.Identity, err error) {
	err = w.transaction(func() error {
		if identity, err = readIdentity(w.conn); err != nil {
			return err
		}
		if text, backup, err := readText(w.conn, backupTimeRow); err != nil {
			return err
		} else if backup {
			return fmt.Errorf("%w of %s; restore it first, with the subcommand restore of the orchestrator",
				journal.ErrBackup, text)
		}
		if err := w.claim(&identity, opening.Name); err != nil {
			return err
		}
		identity.PreviousEpoch = identity.Epoch
		identity.Epoch, identity.EpochAhead = opening.NextEpoch(identity.PreviousEpoch)
		err := execute(w.conn, `UPDATE meta SET value = ? WHERE name = 'epoch'`, signed(identity.Epoch))
		if err == nil && w.conn.Changes() == 0 {
			err = fmt.Errorf("%w: the epoch is missing", journal.ErrCorrupt)
		}
		return err
	})
	return identity, err
}

// claim makes a new store belong to a name.
func (w *writer) claim(identity *journal.Identity, name string) error {
	if identity.StoreID != "" {
		if identity.Name != name {
			return fmt.Errorf("%w: it belongs to the one named %q, and this one is named %q; start it with that "+
				"name, or with another store", journal.ErrName, identity.Name, name)
		}
		return nil
	}
	if name != "" {
		// A store of an earlier version belongs to the empty name, from which the ids in it were derived.
		if sagas, err := queryInt(w.conn, `SELECT count(*) FROM (SELECT 1 FROM sagas LIMIT 1)`); err != nil {
			return err
		} else if sagas > 0 {
			return fmt.Errorf("%w: its sagas were started by one without a name, and this one is named %q; start it "+
				"without a name, or with another store", journal.ErrName, name)
		}
	}
	var raw [16]byte
	_, _ = rand.Read(raw[:]) // never fails
	identity.Name, identity.StoreID = name, hex.EncodeToString(raw[:])
	if err := writeText(w.conn, storeIDRow, identity.StoreID); err != nil {
		return err
	}
	return writeText(w.conn, nameRow, name)
}

// readIdentity returns what the store says about itself.
func readIdentity(conn *sqlite3.Conn) (identity journal.Identity, err error) {
	epoch, err := queryInt(conn, `SELECT value FROM meta WHERE name = 'epoch'`)
	if err != nil {
		return identity, err
	}
	identity.Epoch = uint64(epoch)
	for name, into := range map[string]*string{
		nameRow: &identity.Name, storeIDRow: &identity.StoreID, replacedRow: &identity.Replaced,
	} {
		if *into, _, err = readText(conn, name); err != nil {
			return identity, err
		}
	}
	if identity.Position, err = readPosition(conn); err != nil {
		return identity, err
	}
	if identity.RemoteChildren, err = readTime(conn, remoteRow); err != nil {
		return identity, fmt.Errorf("since when it has remote children: %w", err)
	}
	if identity.Traced, err = readTime(conn, tracedRow); err != nil {
		return identity, fmt.Errorf("up to when its spans were exported: %w", err)
	}
	text, restored, err := readText(conn, restoredRow)
	if err == nil && restored {
		identity.Restored = new(journal.Restored)
		if err := json.Unmarshal([]byte(text), identity.Restored); err != nil {
			return identity, fmt.Errorf("%w: how it was restored: %w", journal.ErrCorrupt, err)
		}
	}
	return identity, err
}

func readPosition(conn *sqlite3.Conn) (uint64, error) {
	text, known, err := readText(conn, positionRow)
	if err != nil || !known {
		return 0, err
	}
	position, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return 0, fmt.Errorf("%w: its position: %w", journal.ErrCorrupt, err)
	}
	return position, nil
}

// readTime returns a time in the table identity, or zero.
func readTime(conn *sqlite3.Conn, name string) (time.Time, error) {
	text, known, err := readText(conn, name)
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

func readText(conn *sqlite3.Conn, name string) (text string, known bool, err error) {
	stmt, _, err := conn.Prepare(`SELECT value FROM identity WHERE name = ?`)
	if err != nil {
		return "", false, err
	}
	defer stmt.Close()
	if err := stmt.BindText(1, name); err != nil {
		return "", false, err
	}
	if known = stmt.Step(); known {
		text = stmt.ColumnText(0)
	}
	return text, known, stmt.Err()
}

func writeText(conn *sqlite3.Conn, name, text string) error {
	return execute(conn, `INSERT INTO identity (name, value) VALUES (?1, ?2)
		ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, text)
}

// execute runs a statement that is needed too rarely to be kept.
func execute(conn *sqlite3.Conn, sql string, args ...any) error {
	stmt, _, err := conn.Prepare(sql)
	if err != nil {
		return err
	}
	defer stmt.Close()
	return run(stmt, args...)
}

// RaisePosition implements journal.Store.
func (s *Store) RaisePosition(ctx context.Context, above uint64) (position uint64, err error) {
	if above > journal.MaxPosition {
		return 0, fmt.Errorf("raise the position of %s above %d: %w", s.path, above, journal.ErrInvalid)
	}
	err = s.write(ctx, "raise the position", func(w *writer) error {
		if position, err = readPosition(w.conn); err != nil {
			return err
		}
		position = max(position, above) + 1
		return writeText(w.conn, positionRow, strconv.FormatUint(position, 10))
	})
	return position, err
}

// MarkReplaced implements journal.Store.
func (s *Store) MarkReplaced(ctx context.Context, cause string, epoch uint64) error {
	return s.write(ctx, "store that it was replaced", func(w *writer) error {
		before, err := readHeardEpoch(w.conn)
		if err != nil {
			return err
		}
		if epoch > before {
			if err := writeText(w.conn, heardEpochRow, strconv.FormatUint(epoch, 10)); err != nil {
				return err
			}
		}
		return execute(w.conn, `INSERT INTO identity (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING`,
			replacedRow, cause)
	})
}

// readHeardEpoch returns the highest epoch of another store that participants have heard, or 0.
func readHeardEpoch(conn *sqlite3.Conn) (uint64, error) {
	text, known, err := readText(conn, heardEpochRow)
	if err != nil || !known {
		return 0, err
	}
	epoch, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: the epoch of another store: %w", journal.ErrCorrupt, err)
	}
	return min(epoch, math.MaxInt64), nil
}

// NoteRemoteChildren implements journal.Store.
func (s *Store) NoteRemoteChildren(ctx context.Context, since time.Time) error {
	return s.write(ctx, "store that it has remote children", func(w *writer) error {
		return execute(w.conn, `INSERT INTO identity (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING`,
			remoteRow, timeText(since))
	})
}

// NoteTraced implements journal.Store.
func (s *Store) NoteTraced(ctx context.Context, until time.Time) error {
	return s.write(ctx, "store up to when spans were exported", func(w *writer) error {
		if until.IsZero() {
			return execute(w.conn, `DELETE FROM identity WHERE name = ?`, tracedRow)
		}
		return writeText(w.conn, tracedRow, timeText(until))
	})
}

// OldestOpen implements journal.Store.
func (s *Store) OldestOpen(ctx context.Context) (oldest time.Time, err error) {
	err = s.read(ctx, "read the oldest open saga", func(r *reader) error {
		return r.query(`SELECT min(create_time) FROM sagas WHERE state < 4`, nil, func(stmt *sqlite3.Stmt) error {
			oldest = columnTime(stmt, 0)
			return nil
		})
	})
	return oldest, err
}

// EndRestore implements journal.Store.
func (s *Store) EndRestore(ctx context.Context) error {
	return s.write(ctx, "end the restoration", func(w *writer) error {
		return execute(w.conn, `DELETE FROM identity WHERE name = ?`, restoredRow)
	})
}

// Participants implements journal.Store.
func (s *Store) Participants(ctx context.Context) (found []journal.Participant, err error) {
	err = s.read(ctx, "read participants", func(r *reader) error {
		found = nil
		return r.query(`SELECT service, proven, horizon FROM participants ORDER BY service`, nil,
			func(stmt *sqlite3.Stmt) error {
				found = append(found, journal.Participant{
					Service: stmt.ColumnText(0), Proven: stmt.ColumnInt64(1) != 0, Horizon: columnTime(stmt, 2),
				})
				return nil
			})
	})
	return found, err
}

// PutParticipant implements journal.Store.
func (s *Store) PutParticipant(ctx context.Context, participant journal.Participant) error {
	if participant.Service == "" {
		return fmt.Errorf("store a participant in %s: %w: it has no service", s.path, journal.ErrInvalid)
	}
	return s.write(ctx, "store a participant", func(w *writer) error {
		proven := int64(0)
		if participant.Proven {
			proven = 1
		}
		return execute(w.conn, `INSERT INTO participants (service, proven, horizon) VALUES (?1, ?2, ?3)
			ON CONFLICT (service) DO UPDATE SET proven = max(proven, excluded.proven),
				horizon = nullif(max(coalesce(horizon, 0), coalesce(excluded.horizon, 0)), 0)`,
			participant.Service, proven, participant.Horizon)
	})
}

// Purged implements journal.Store.
func (s *Store) Purged(ctx context.Context, id string) (purged bool, err error) {
	err = s.read(ctx, "find a purged saga", func(r *reader) error {
		purged = false
		return r.query(`SELECT 1 FROM purged WHERE id = ?`, []any{id}, func(*sqlite3.Stmt) error {
			purged = true
			return nil
		})
	})
	return purged, err
}

// Lost implements journal.Store.
func (s *Store) Lost(ctx context.Context, params journal.LostParams) (lost []journal.LostSaga, err error) {
	if err := params.Validate(); err != nil {
		return nil, fmt.Errorf("read lost sagas in %s: %w", s.path, err)
	}
	err = s.read(ctx, "read lost sagas", func(r *reader) error {
		lost = nil
		return r.query(`SELECT data FROM lost WHERE id > ? ORDER BY id LIMIT ?`,
			[]any{params.After, int64(params.Limit)},
			func(stmt *sqlite3.Stmt) error {
				saga, err := lostIn(stmt)
				lost = append(lost, saga)
				return err
			})
	})
	return lost, err
}

func lostIn(stmt *sqlite3.Stmt) (saga journal.LostSaga, err error) {
	if err := json.Unmarshal([]byte(stmt.ColumnText(0)), &saga); err != nil {
		return saga, fmt.Errorf("%w: a lost saga: %w", journal.ErrCorrupt, err)
	}
	return saga, nil
}

// AddLost implements journal.Store.
func (s *Store) AddLost(ctx context.Context, lost []journal.LostSaga) error {
	return s.write(ctx, "store lost sagas", func(w *writer) error {
		for _, found := range lost {
			known, err := w.lost(found.ID)
			if err != nil {
				return err
			}
			if known.ID == "" {
				found.EventsAfter = uint64(w.newest)
			}
			data, err := json.Marshal(journal.MergeLost(known, found))
			if err != nil {
				return err
			}
			if err := execute(w.conn, `INSERT INTO lost (id, data) VALUES (?1, ?2)
				ON CONFLICT (id) DO UPDATE SET data = excluded.data`, found.ID, string(data)); err != nil {
				return err
			}
			w.hasLost = true
		}
		return nil
	})
}

func (w *writer) lost(id string) (saga journal.LostSaga, err error) {
	stmt, _, err := w.conn.Prepare(`SELECT data FROM lost WHERE id = ?`)
	if err != nil {
		return saga, err
	}
	defer stmt.Close()
	if err := stmt.BindText(1, id); err != nil {
		return saga, err
	}
	if stmt.Step() {
		return lostIn(stmt)
	}
	return saga, stmt.Err()
}

// RemoveLost implements journal.Store.
func (s *Store) RemoveLost(ctx context.Context, id string) error {
	return s.write(ctx, "remove a lost saga", func(w *writer) error { return w.removeLost(id) })
}

// createdAt returns the position of the newest event that a new saga can't receive.
func (w *writer) createdAt(id string) (int64, error) {
	if !w.hasLost {
		return w.newest, nil
	}
	saga, err := w.lost(id)
	if err != nil || saga.ID == "" {
		return w.newest, err
	}
	return int64(saga.EventsAfter), nil
}

// removeLost is called for every saga that is created.
func (w *writer) removeLost(id string) error {
	if !w.hasLost {
		return nil
	}
	return execute(w.conn, `DELETE FROM lost WHERE id = ?`, id)
}
