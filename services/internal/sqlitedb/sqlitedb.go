// Package sqlitedb opens a service's own SQLite database and reads rows from it. A committed transaction survives a
// crash of the process and of the machine.
//
// [Open] opens any database and migrates its schema. [OpenStore] opens a participant's database, with the inbox in it.
// [Query] reads one row or a page of rows.
package sqlitedb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/ncruces/go-sqlite3"
	_ "github.com/ncruces/go-sqlite3/driver" // registers the "sqlite3" driver

	"github.com/treatyhq/treaty/participant/inbox"
)

// Journal is how SQLite keeps transactions atomic in a crash.
type Journal string

// The journals.
const (
	// WAL lets readers continue while a transaction writes. It is the default.
	WAL Journal = "wal"

	// Rollback is for files that are also opened by a SQLite library without shared memory.
	Rollback Journal = "delete"
)

// Params describe a database.
type Params struct {
	// Path is the file. It is created if it doesn't exist. Its directory must exist.
	Path string

	// Migrations are SQL scripts, oldest first. The database stores how many of them it has run (PRAGMA user_version).
	// Open runs the others, all or none. Never change a released migration, only add new ones.
	Migrations []string

	// Journal is the journal. Default WAL.
	Journal Journal
}

// maxIdleLog is the maximum size in bytes of a journal that isn't needed. It is larger while somebody reads an old
// state.
const maxIdleLog = 16 << 20

// ErrNewer is returned by Open if a later version of the program wrote the file.
var ErrNewer = errors.New("a newer version of the program wrote the database")

// ErrNotDatabase is returned by Open if the file is damaged or isn't a SQLite database.
var ErrNotDatabase = errors.New("the file is damaged or not a SQLite database")

// Open opens a database and migrates its schema. A commit is on disk when it returns (synchronous=FULL). Foreign keys
// are enforced. Only the owner can read a file that it creates, and the files next to it have the same mode. Errors
// name the file.
func Open(ctx context.Context, p Params) (*sql.DB, error) {
	if info, err := os.Stat(filepath.Dir(p.Path)); err != nil || !info.IsDir() {
		return nil, fmt.Errorf(
			"opening database %s: its directory doesn't exist; create it or choose another file with --db", p.Path)
	}
	if p.Journal == "" {
		p.Journal = WAL
	}
	db, err := inbox.OpenSQLiteDB(dataSource(p))
	if err != nil {
		return nil, fmt.Errorf("opening database %s: %w", p.Path, err)
	}
	// Readers share a few connections. Writers queue for SQLite's lock.
	db.SetMaxOpenConns(8)
	db.SetMaxIdleConns(8)
	if err := migrate(ctx, db, p.Migrations); err != nil {
		return nil, errors.Join(fmt.Errorf("opening database %s: %w", p.Path, explain(err)), db.Close())
	}
	return db, nil
}

func dataSource(p Params) string {
	query := url.Values{"modeof": {p.Path}, "_pragma": {
		"busy_timeout(10000)",
		"journal_mode(" + string(p.Journal) + ")",
		"synchronous(full)",
		"foreign_keys(on)",
		"journal_size_limit(" + strconv.Itoa(maxIdleLog) + ")",
	}}
	parameters := strings.ReplaceAll(query.Encode(), "+", "%20") // SQLite takes a plus sign for itself
	return "file:" + (&url.URL{Path: filepath.ToSlash(p.Path)}).EscapedPath() + "?" + parameters
}

func explain(err error) error {
	switch {
	case errors.Is(err, sqlite3.NOTADB), errors.Is(err, sqlite3.CORRUPT):
		return fmt.Errorf("%w: restore it from a backup, or move it away to start with an empty one: %w",
			ErrNotDatabase, err)
	case errors.Is(err, sqlite3.CANTOPEN), errors.Is(err, sqlite3.READONLY):
		return fmt.Errorf("can't write the file; check its permissions: %w", err)
	case errors.Is(err, sqlite3.FULL):
		return fmt.Errorf("the disk is full: %w", err)
	default:
		return err
	}
}

func migrate(ctx context.Context, db *sql.DB, migrations []string) (err error) {
	tx, err := db.BeginTx(ctx, Immediate())
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, tx.Rollback())
		}
	}()
	var version int
	if err := tx.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&version); err != nil {
		return fmt.Errorf("reading the schema's version: %w", err)
	}
	if version > len(migrations) {
		return fmt.Errorf(
			"%w: its schema has version %d, this program knows versions up to %d; start the newer program",
			ErrNewer, version, len(migrations))
	}
	for ; version < len(migrations); version++ {
		if _, err := tx.ExecContext(ctx, migrations[version]); err != nil {
			return fmt.Errorf("migrating the schema from %d to %d: %w", version, version+1, err)
		}
	}
	if _, err := tx.ExecContext(ctx, fmt.Sprintf(`PRAGMA user_version = %d`, version)); err != nil {
		return fmt.Errorf("storing the schema's version: %w", err)
	}
	return tx.Commit()
}

// Immediate returns the options of a transaction that blocks other writers from its beginning (BEGIN IMMEDIATE), so
// what it has read can't change before it writes.
func Immediate() *sql.TxOptions { return &sql.TxOptions{Isolation: sql.LevelSerializable} }
