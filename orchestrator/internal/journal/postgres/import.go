package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// ImportParams says what Import imports.
type ImportParams struct {
	// Identity is what the other store says about itself. Its sagas, their scope, its position and its epochs become
	// those of shard 0: participants know that scope.
	Identity journal.Identity

	// Shards is the number of shards of the database if it has none yet. It must be positive.
	Shards int

	// Read calls a function with every row of every table of the other store, as sqlite.Export does.
	Read func(ctx context.Context, row func(table string, values []any) error) error
}

// Import fills a database that has no sagas and events with what a SQLite store holds, in one transaction. No instance
// may use the database. It returns ErrExists if the database isn't empty, and otherwise the errors of Connect.
func Import(ctx context.Context, url string, params ImportParams) error {
	if params.Shards <= 0 {
		return fmt.Errorf("import a store: %w: the number of shards must be positive", journal.ErrInvalid)
	}
	d, err := Connect(ctx, url, journal.Opening{Name: params.Identity.Name})
	if err != nil {
		return err
	}
	err = d.write(ctx, "import into", func(ctx context.Context, tx pgx.Tx) error {
		i := &importing{ctx: ctx, tx: tx, definitions: make(map[int64]int32), types: make(map[int64]int32)}
		if err := i.begin(params); err != nil {
			return err
		}
		if err := params.Read(ctx, i.add); err != nil {
			return err
		}
		return i.end()
	})
	return errors.Join(err, d.Close())
}

// integer and text return a value of a column that has this type.
func integer(value any) int64 {
	n, _ := value.(int64)
	return n
}

func text(value any) string {
	s, _ := value.(string)
	return s
}

// importing is an import under way.
type importing struct {
	ctx context.Context
	tx  pgx.Tx

	definitions, types map[int64]int32 // numbers of names, by those of the other store

	tables []*importedTable // that have rows to write
	err    error

	lastKey, lastEvent int64
}

// importedTable are rows of a table that weren't written yet.
type importedTable struct {
	name  string
	rows  [][]any
	bytes int
}

// The maximum numbers of rows and bytes that are kept until they are written.
const (
	importRows  = 4096
	importBytes = 8 << 20
)

// importedColumns are the columns of the tables, in the order in which the rows have them.
var importedColumns = map[string]string{
	"sagas": "key, create_time, created, parent_start, shard, definition, id, request_id, parent_scope, parent, " +
		"undoer, labels",
	"open_sagas": "key, create_time, update_time, revision, end_time, due, shard, definition, first_turn, " +
		"await_turn, state, suspension, apart, waiting, id",
	"ended_sagas": "key, update_time, revision, end_time, due, shard, definition, first_turn, state, apart, waiting",
	"turns":       "position, time, checksum, data",
	"labels":      "saga, label, value",
	"events":      "position, time, store_time, type, source, id, subject, publisher, data",
	"awaits":      "saga, after, number, type, subject",
	"consumers":   "name, position, filter, owner",
	"purged":      "id, end_time",
	"past_events": "position, store_time, source, id, publisher, digest", "participants": "service, proven, horizon",
	"lost": "id, events_after, data", "scopes": "scope, epoch, position, store_id, horizon",
	"shard_identity": "shard, name, value",
}

// begin checks that the database is empty, and makes it the other store.
func (i *importing) begin(params ImportParams) error {
	if _, err := schemaVersion(i.ctx, i.tx, " FOR UPDATE"); err != nil {
		return err
	}
	var used bool
	if err := i.tx.QueryRow(i.ctx, `SELECT EXISTS (SELECT 1 FROM sagas) OR EXISTS (SELECT 1 FROM events)
		OR EXISTS (SELECT 1 FROM members WHERE lease_end > now())`).Scan(&used); err != nil {
		return err
	}
	if used {
		return fmt.Errorf("%w: the database has sagas or events, or an instance uses it; name an empty database",
			journal.ErrExists)
	}
	for _, one := range []struct {
		sql  string
		args []any
	}{
		{`INSERT INTO cluster (shards) VALUES ($1) ON CONFLICT DO NOTHING`, []any{params.Shards}},
		{`INSERT INTO shards (shard) SELECT generate_series(0, (SELECT shards FROM cluster) - 1)
			ON CONFLICT DO NOTHING`, nil},
		{`UPDATE shards SET epoch = greatest(epoch, $1) WHERE shard = 0`, []any{signed(params.Identity.Epoch)}},
		{`DELETE FROM shard_identity`, nil},
	} {
		if _, err := i.tx.Exec(i.ctx, one.sql, one.args...); err != nil {
			return err
		}
	}
	return writeText(i.ctx, i.tx, storeIDRow, params.Identity.StoreID)
}

// end writes what is left, and sets the counters.
func (i *importing) end() error {
	for _, table := range i.tables {
		i.flush(table)
	}
	if i.err != nil {
		return i.err
	}
	if _, err := i.tx.Exec(i.ctx, `UPDATE event_counter SET newest = $1`, i.lastEvent); err != nil {
		return err
	}
	_, err := i.tx.Exec(i.ctx, `UPDATE saga_keys SET next = $1`, i.lastKey+1)
	return err
}

// put adds a row to a table. Texts are encoded.
func (i *importing) put(table string, values ...any) error {
	var to *importedTable
	for _, one := range i.tables {
		if one.name == table {
			to = one
		}
	}
	if to == nil {
		to = &importedTable{name: table}
		i.tables = append(i.tables, to)
	}
	for at, value := range values {
		switch value := value.(type) {
		case string:
			values[at], to.bytes = encoded(value), to.bytes+len(value)
		case []byte:
			to.bytes += len(value)
		}
	}
	if to.rows = append(to.rows, values); len(to.rows) >= importRows || to.bytes >= importBytes {
		i.flush(to)
	}
	return i.err
}

func (i *importing) flush(table *importedTable) {
	if i.err == nil && len(table.rows) > 0 {
		columns := strings.Split(importedColumns[table.name], ", ")
		_, i.err = i.tx.CopyFrom(i.ctx, pgx.Identifier{table.name}, columns, pgx.CopyFromRows(table.rows))
	}
	table.rows, table.bytes = nil, 0
}

// add adds a row of the other store.
func (i *importing) add(table string, v []any) error {
	switch table {
	case "definitions":
		return i.name(v, i.definitions)
	case "event_types":
		return i.name(v, i.types)
	case "identity":
		return i.identity(v)
	case "sagas":
		return i.saga(v)
	case "turns":
		position := integer(v[0])
		data, _ := v[1].([]byte)
		sum := checksum(position, data)
		if stored, is := v[2].(int64); is {
			sum = int32(uint32(stored)) // a wrong one stays wrong
		}
		return i.put(table, position, v[3], sum, data)
	case "events":
		i.lastEvent = max(i.lastEvent, integer(v[0]))
		return i.put(table, v[0], v[5], v[6], i.types[integer(v[3])], v[1], v[2], v[4], v[8], v[7])
	case "awaits":
		return i.put(table, v[0], v[4], v[1], i.types[integer(v[2])], v[3])
	case "past_events":
		return i.put(table, v[0], v[3], v[1], v[2], v[5], v[4])
	case "participants":
		return i.put(table, v[0], v[1] != int64(0), v[2])
	case "lost":
		var saga journal.LostSaga
		if err := json.Unmarshal([]byte(text(v[1])), &saga); err != nil {
			return fmt.Errorf("%w: a lost saga: %w", journal.ErrCorrupt, err)
		}
		return i.put(table, v[0], signed(saga.EventsAfter), v[1])
	case "labels", "consumers", "purged", "scopes":
		return i.put(table, v...)
	}
	return nil // meta has the epoch
}

// name gives a name its number.
func (i *importing) name(v []any, keys map[int64]int32) error {
	var key int32
	err := i.tx.QueryRow(i.ctx, `INSERT INTO names (name) VALUES ($1)
		ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING key`, encoded(text(v[1]))).Scan(&key)
	if err != nil {
		return err
	}
	keys[integer(v[0])] = key
	return nil
}

func (i *importing) identity(v []any) error {
	switch name := text(v[0]); name {
	case remoteRow, tracedRow:
		return writeText(i.ctx, i.tx, name, text(v[1]))
	case positionRow, replacedRow, heardEpochRow, restoredRow:
		return i.put("shard_identity", 0, name, v[1])
	}
	return nil
}

// saga adds a saga. Its columns are those of the table in SQLite.
func (i *importing) saga(v []any) error {
	const shard = 0
	key, definition := integer(v[0]), i.definitions[integer(v[2])]
	i.lastKey = max(i.lastKey, key)
	if err := i.put("sagas", key, v[4], v[10], v[15], shard, definition, v[1], v[16], v[13], v[14], v[17],
		v[8]); err != nil {
		return err
	}
	apart := 0
	if undoer, is := v[17].(string); is && undoer == "" {
		apart = 1
	} else if is {
		apart = 2
	}
	waiting := v[9] != int64(0)
	if final(int16(integer(v[3]))) {
		return i.put("ended_sagas", key, v[5], v[18], v[6], v[7], shard, definition, v[11], v[3], apart, waiting)
	}
	return i.put("open_sagas", key, v[4], v[5], v[18], v[6], v[7], shard, definition, v[11], 1, v[3], v[12],
		apart, waiting, v[1])
}
