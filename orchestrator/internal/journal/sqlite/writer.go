package sqlite

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ncruces/go-sqlite3"
)

// maxCached is the maximum number of open sagas that the writer caches. Each takes about 150 bytes. A saga that isn't
// cached costs one query.
const maxCached = 1 << 16

// maxIdleLog is the maximum size in bytes of a write-ahead log whose contents are in the file. The log is twice as
// large as one that is checkpointed in time, and larger only while somebody reads an old state of the store.
const maxIdleLog = 32 << 20

// writer is the connection that writes. It isn't safe for concurrent use.
type writer struct {
	conn *sqlite3.Conn

	mark *mark // nil if nothing is marked

	begin, commit, rollback                   *sqlite3.Stmt
	findSaga, insertSaga, updateSaga          *sqlite3.Stmt
	insertTurn, insertLabel                   *sqlite3.Stmt
	deleteTurns, setFirstTurn                 *sqlite3.Stmt
	deleteAwaits, insertAwait                 *sqlite3.Stmt
	hasAwait, hasEvent, wakeSaga, wakeSagas   *sqlite3.Stmt
	insertEvent, findEvent, deleteEvents      *sqlite3.Stmt
	oldestEvents                              *sqlite3.Stmt
	findEnded, findEndedApart, findFamily     *sqlite3.Stmt
	findEndedSaga, deleteLabel, deleteSaga    *sqlite3.Stmt
	isPurged, rememberPurged                  *sqlite3.Stmt
	findConsumer, insertConsumer, setConsumer *sqlite3.Stmt
	setOwner                                  *sqlite3.Stmt
	findPast, insertPast, pastFrom            *sqlite3.Stmt

	// group is the number of the current group. The cache keeps the sagas of the group.
	group uint64

	// nextKey is the key of the next new saga. It only grows.
	nextKey int64

	// newest is the position of the newest event.
	newest int64

	// lastTurn is the position of the turn that the current group wrote last, or 0.
	lastTurn int64

	// hasPast is false if certainly no id of a purged event is kept.
	hasPast bool

	// hasPurged is false if certainly no id of a purged saga is kept.
	hasPurged bool

	// hasLost is false if there is certainly no lost saga.
	hasLost bool

	// sagas caches the positions of open sagas that don't wait. definitions and types cache the keys of names. They
	// include the changes of the current transaction. When it fails, what it may have changed is dropped.
	sagas              map[string]*position
	definitions, types names

	// uncached are the sagas to drop from the cache when the current transaction is committed.
	uncached []string

	// broken is set forever when the engine has failed. Then failed is closed.
	broken error
	failed chan struct{}
}

// position is the position of a saga's journal.
type position struct {
	key     int64
	last    uint64 // the number of the last turn
	group   uint64 // the group in which it was cached
	created int64  // the position of the newest event when the saga was created
	waiting bool
	awaits  bool // whether it has stored awaits
}

func openWriter(ctx context.Context, path string, options options) (w *writer, err error) {
	defer recoverPanic(&err)
	conn, err := connect(ctx, path, options,
		"synchronous = FULL",
		"foreign_keys = OFF",
		"temp_store = MEMORY",
		"cache_size = -8192", // a commit that splits a page looks at each page in the cache
		"wal_autocheckpoint = 4096",
		fmt.Sprintf("journal_size_limit = %d", maxIdleLog),
	)
	if err != nil {
		return nil, err
	}
	w = &writer{conn: conn, sagas: map[string]*position{}, failed: make(chan struct{})}
	if err := w.setUp(); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return w, nil
}

func (w *writer) setUp() error {
	if readOnly, _ := w.conn.ReadOnly("main"); readOnly {
		return sqlite3.READONLY
	}
	// Both read the file before they write to it, so a file that can't be read isn't changed.
	if err := w.useWAL(); err != nil {
		return err
	}
	if err := migrate(w.conn); err != nil {
		return err
	}
	return w.prepare()
}

func (w *writer) useWAL() error {
	stmt, _, err := w.conn.Prepare(`PRAGMA journal_mode = WAL`)
	if err != nil {
		return err
	}
	defer stmt.Close()
	if !stmt.Step() {
		return stmt.Err()
	}
	if mode := stmt.ColumnText(0); mode != "wal" {
		return fmt.Errorf("the file system allows no write-ahead log (journal mode %q); use a local disk", mode)
	}
	return nil
}

func (w *writer) prepare() error {
	statements := []struct {
		stmt **sqlite3.Stmt
		sql  string
	}{
		{&w.begin, `BEGIN IMMEDIATE`},
		{&w.commit, `COMMIT`},
		{&w.rollback, `ROLLBACK`},
		{&w.findSaga, `SELECT key,
			(SELECT max(position) FROM turns WHERE position BETWEEN key << 24 AND (key << 24 | 0xffffff)),
			created, waiting, EXISTS (SELECT 1 FROM awaits WHERE saga = key) FROM sagas WHERE id = ?`},
		{&w.insertSaga, `INSERT INTO sagas
				(key, id, definition, state, create_time, update_time, end_time, due, labels, waiting, created,
					suspension, parent_scope, parent, parent_start, request_id, undoer, revision)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`},
		{&w.isPurged, `SELECT 1 FROM purged WHERE id = ?`},
		{&w.rememberPurged, `INSERT INTO purged (id, end_time) VALUES (?, ?) ON CONFLICT (id) DO NOTHING`},
		{&w.updateSaga, `UPDATE sagas SET state = ?2, update_time = ?3, end_time = ?4, due = ?5, waiting = ?6,
				suspension = ?7, revision = ?8
			WHERE key = ?1`},
		{&w.insertTurn, `INSERT INTO turns (position, data, checksum, time) VALUES (?, ?, ?, ?)`},
		{&w.insertLabel, `INSERT INTO labels (label, value, saga) VALUES (?, ?, ?)`},
		{&w.deleteTurns, `DELETE FROM turns WHERE position BETWEEN ?1 << 24 AND (?1 << 24 | ?2)`},
		{&w.setFirstTurn, `UPDATE sagas SET first_turn = ?2 WHERE key = ?1`},
		{&w.deleteAwaits, `DELETE FROM awaits WHERE saga = ?`},
		{&w.insertAwait, `INSERT INTO awaits (saga, number, type, subject, after) VALUES (?, ?, ?, ?, ?)`},
		{&w.hasAwait, hasAwaitQuery},
		{&w.hasEvent, hasEventQuery},
		{&w.wakeSaga, `UPDATE sagas SET due = min(ifnull(due, ?2), ?2) WHERE key = ?1`},
		{&w.wakeSagas, wakeQuery},
		{&w.insertEvent, `INSERT INTO events (position, source, id, type, subject, time, store_time, data, publisher)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (source, id) DO NOTHING`},
		{&w.findEvent, `SELECT position, type, subject, data, publisher FROM events WHERE source = ? AND id = ?`},
		{&w.deleteEvents, `DELETE FROM events WHERE position BETWEEN ? AND ?`},
		{&w.oldestEvents, `SELECT position, store_time FROM events WHERE position < ? ORDER BY position LIMIT ?`},
		{&w.findEnded, endedQuery},
		{&w.findEndedApart, endedApartQuery},
		{&w.findEndedSaga, endedSagaQuery},
		{&w.findFamily, familyQuery},
		{&w.deleteLabel, `DELETE FROM labels WHERE label = ? AND value = ? AND saga = ?`},
		{&w.deleteSaga, `DELETE FROM sagas WHERE key = ?`},
		{&w.findConsumer, findConsumerQuery},
		{&w.insertConsumer, `INSERT INTO consumers (name, position, filter, owner) VALUES (?, ?, ?, ?)`},
		{&w.setConsumer, `UPDATE consumers SET position = ?2 WHERE name = ?1`},
		{&w.setOwner, `UPDATE consumers SET owner = ?2 WHERE name = ?1`},
		{&w.definitions.find, `SELECT key FROM definitions WHERE name = ?`},
		{&w.definitions.insert, `INSERT INTO definitions (name) VALUES (?)`},
		{&w.types.find, `SELECT key FROM event_types WHERE name = ?`},
		{&w.types.insert, `INSERT INTO event_types (name) VALUES (?)`},
	}
	for _, s := range statements {
		stmt, err := prepare(w.conn, s.sql)
		if err != nil {
			return err
		}
		*s.stmt = stmt
	}
	w.definitions.keys, w.types.keys = map[string]int64{}, map[string]int64{}
	var err error
	w.nextKey, err = queryInt(w.conn, `SELECT max(
		ifnull((SELECT max(key) FROM sagas), 0), ifnull((SELECT max(position) >> 24 FROM turns), 0)) + 1`)
	if err != nil {
		return err
	}
	if w.newest, err = queryInt(w.conn, `SELECT ifnull(max(position), 0) FROM events`); err != nil {
		return err
	}
	if err := w.preparePast(); err != nil {
		return err
	}
	purged, err := queryInt(w.conn, `SELECT EXISTS (SELECT 1 FROM purged)`)
	if err != nil {
		return err
	}
	w.hasPurged = purged != 0
	lost, err := queryInt(w.conn, `SELECT EXISTS (SELECT 1 FROM lost)`)
	w.hasLost = lost != 0
	return err
}

func (w *writer) close() (err error) {
	defer recoverPanic(&err)
	for _, stmt := range slices.Collect(w.conn.Stmts()) {
		_ = stmt.Close() // the error was returned before
	}
	return w.conn.Close()
}
