package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ncruces/go-sqlite3"

	benchv1 "github.com/treatyhq/treaty/gen/bench/v1"
)

// fillBatch is how many sagas a statement writes.
const fillBatch = 100_000

// filledStore returns the file of a store with finished sagas: a copy of the one that was kept, or a new one, of which
// a copy is kept if the options name a file for it.
func (m *measurement) filledStore(o options, progress io.Writer) (string, error) {
	path := filepath.Join(m.dir, "filled.db")
	if o.FillStore != "" {
		switch err := copyFile(o.FillStore, path); {
		case err == nil:
			fmt.Fprintf(progress, "using a copy of %s\n", o.FillStore)
			return path, checkFilled(m.ctx, o, path)
		case !errors.Is(err, fs.ErrNotExist):
			return "", fmt.Errorf("copying the filled store: %w", err)
		}
	}
	if err := m.finishOne(o, path); err != nil {
		return "", fmt.Errorf("running the saga to fill the store with: %w", err)
	}
	if err := multiply(m.ctx, path, o.Fill-1, progress); err != nil {
		return "", fmt.Errorf("filling the store: %w", err)
	}
	if o.FillStore == "" {
		return path, nil
	}
	if err := copyFile(path, o.FillStore); err != nil {
		return "", fmt.Errorf("keeping the filled store: %w", err)
	}
	return path, nil
}

// checkFilled returns an error if a store has fewer sagas than it should.
func checkFilled(ctx context.Context, o options, path string) error {
	conn, err := sqlite3.OpenContext(ctx, "file:"+path)
	if err != nil {
		return fmt.Errorf("opening the filled store: %w", err)
	}
	defer conn.Close()
	sagas, err := queryRow(conn, `SELECT count(*) FROM sagas`)
	if err != nil {
		return fmt.Errorf("counting the sagas of %s: %w", o.FillStore, err)
	}
	if sagas[0] < int64(o.Fill) {
		return fmt.Errorf("--fill-store %s has %d sagas, fewer than --fill %d: remove it, or name another file",
			o.FillStore, sagas[0], o.Fill)
	}
	return nil
}

// finishOne runs one saga in a new store.
func (m *measurement) finishOne(o options, path string) error {
	participant, err := m.start(nil, "participant")
	if err != nil {
		return err
	}
	treaty, err := m.start(nil, "treaty", "--unary", "--participant", participant.address, "--store", path)
	if err != nil {
		return err
	}
	client, closeConn, err := dial(treaty.address, benchv1.NewWorkSagasClient)
	if err != nil {
		return err
	}
	defer closeConn()
	request := &benchv1.RunRequest{Steps: int32(o.Steps), Payload: make([]byte, o.Payload)}
	if _, err := client.Run(m.ctx, request); err != nil {
		return fmt.Errorf("running a saga: %w", err)
	}
	return errors.Join(treaty.stop(), participant.stop())
}

// multiply writes more sagas like the only one of a store, as if each had run a millisecond after the one before, and
// the last one with it. They differ from it in what the store needs to tell sagas apart. No process may have the store
// open.
func multiply(ctx context.Context, path string, sagas int, progress io.Writer) (err error) {
	conn, err := sqlite3.OpenContext(ctx, "file:"+path)
	if err != nil {
		return fmt.Errorf("opening %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	conn.SetInterrupt(ctx)
	// A file that is lost with the process needs no journal, and is written much faster without.
	if err := conn.Exec(`PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;
		PRAGMA cache_size = -65536`); err != nil {
		return fmt.Errorf("preparing %s: %w", path, err)
	}
	if err := conn.CreateFunction("turn_checksum", 2, sqlite3.DETERMINISTIC, turnChecksum); err != nil {
		return fmt.Errorf("preparing %s: %w", path, err)
	}
	found, err := queryRow(conn, `SELECT count(*), max(key) FROM sagas WHERE state = 4`)
	if err != nil {
		return fmt.Errorf("finding the saga in %s: %w", path, err)
	}
	if found[0] != 1 {
		return fmt.Errorf("%s has %d sagas that succeeded, want one", path, found[0])
	}
	first := found[1] + 1
	end := first + int64(sagas)
	var statements []string
	for _, table := range filledTables {
		statement, err := table.statement(conn, found[1], end)
		if err != nil {
			return fmt.Errorf("reading the schema of %s: %w", path, err)
		}
		statements = append(statements, statement)
	}
	for at := first; at < end; at += fillBatch {
		for _, statement := range statements {
			if err := conn.Exec(fmt.Sprintf(statement, at, min(at+fillBatch, end))); err != nil {
				return fmt.Errorf("writing sagas from number %d: %w", at, err)
			}
		}
		if done := at + fillBatch - first; done%1_000_000 == 0 {
			fmt.Fprintf(progress, "%d of %d sagas are in the store\n", min(done, int64(sagas)), sagas)
		}
	}
	if err := conn.Exec(`PRAGMA journal_mode = WAL`); err != nil {
		return fmt.Errorf("finishing %s: %w", path, err)
	}
	return syncFile(path)
}

// filledTable is a table of the store with rows for each saga.
type filledTable struct {
	name    string
	ofSaga  string            // the condition for the rows of the saga with the key %d
	columns map[string]string // what is different for saga n; :ago is how many microseconds it is older
}

// filledTables are the tables in which a finished saga has rows. turnPosition and the checksum are those of the SQLite
// store. The ids have the length of real ones, and their order is that of time, too.
var filledTables = []filledTable{
	{"sagas", "key = %d", map[string]string{
		"key": "n", "id": "printf('s%%026d', n)",
		"create_time": "create_time - :ago", "update_time": "update_time - :ago", "end_time": "end_time - :ago",
	}},
	{"turns", "position BETWEEN %[1]d << 24 AND (%[1]d << 24 | 0xffffff)", map[string]string{
		"position": turnPosition, "checksum": "turn_checksum(" + turnPosition + ", data)", "time": "time - :ago",
	}},
}

// turnPosition is the key of a turn of saga n.
const turnPosition = "(n << 24 | (position & 0xffffff))"

// statement returns a statement that writes the rows of sagas %d to %d, without the last one, like those of another.
func (t filledTable) statement(conn *sqlite3.Conn, like, end int64) (string, error) {
	stmt, _, err := conn.Prepare(`SELECT name FROM pragma_table_info('` + t.name + `')`)
	if err != nil {
		return "", err
	}
	defer stmt.Close()
	var columns, values []string
	for stmt.Step() {
		column := stmt.ColumnText(0)
		columns = append(columns, column)
		if value, differs := t.columns[column]; differs {
			column = strings.ReplaceAll(value, ":ago", fmt.Sprintf("(%d - n) * 1000", end))
		}
		values = append(values, column)
	}
	if err := stmt.Err(); err != nil {
		return "", err
	}
	return fmt.Sprintf(`WITH RECURSIVE
			numbers (n) AS (VALUES (%%d) UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < %%d)
		INSERT INTO %s (%s) SELECT %s FROM numbers CROSS JOIN (SELECT * FROM %s WHERE %s)`,
		t.name, strings.Join(columns, ", "), strings.Join(values, ", "), t.name, fmt.Sprintf(t.ofSaga, like)), nil
}

// turnChecksum is the CRC-32C of a turn's data and position.
func turnChecksum(ctx sqlite3.Context, args ...sqlite3.Value) {
	var at [8]byte
	binary.BigEndian.PutUint64(at[:], uint64(args[0].Int64()))
	ctx.ResultInt64(int64(crc32.Update(crc32.Checksum(args[1].RawBlob(), castagnoli), castagnoli, at[:])))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// queryRow returns the columns of the first row, which are numbers.
func queryRow(conn *sqlite3.Conn, sql string) ([]int64, error) {
	stmt, _, err := conn.Prepare(sql)
	if err != nil {
		return nil, err
	}
	defer stmt.Close()
	if !stmt.Step() {
		return nil, errors.Join(errors.New("there is no row"), stmt.Err())
	}
	row := make([]int64, stmt.ColumnCount())
	for i := range row {
		row[i] = stmt.ColumnInt64(i)
	}
	return row, nil
}

// copyFile copies a file, which is complete or absent, and on disk.
func copyFile(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	part := to + ".part"
	target, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer os.Remove(part)
	_, err = io.Copy(target, source)
	if err := errors.Join(err, target.Sync(), target.Close()); err != nil {
		return err
	}
	return os.Rename(part, to)
}

// syncFile writes to the disk what is still in memory, so that the measurement needn't.
func syncFile(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

// startFilled starts an orchestrator with a filled store, and its participant.
func (m *measurement) startFilled(o options, progress io.Writer) (*side, error) {
	path, err := m.filledStore(o, progress)
	if err != nil {
		return nil, err
	}
	o.Profile = "" // it is that of the other orchestrator
	return m.startTreatyOn(&side{name: "filled store", store: path}, o)
}
