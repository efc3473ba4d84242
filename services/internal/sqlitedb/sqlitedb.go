// Package sqlitedb opens a participant's own SQLite database so that what was committed survives a crash of the process
// and of the machine. It knows nothing of sagas.
package sqlitedb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"github.com/ncruces/go-sqlite3"
	_ "github.com/ncruces/go-sqlite3/driver" // registers the "sqlite3" driver
)

// Journal is how SQLite keeps a transaction whole over a crash.
type Journal string

// The journals.
const (
	// WAL lets readers go on while one writes. The default.
	WAL Journal = "wal"

	// Rollback is for files that an SQLite without shared memory opens too.
	Rollback Journal = "delete"
)

// Params says which database to open.
type Params struct {
	// Path is the file. It is created when it isn't there; its directory must be.
	Path string

	// Migrations are SQL scripts, oldest first. The database remembers how many it has had (PRAGMA user_version); the
	// rest is run when it is opened, all or nothing. Never change one that was released, only add.
	Migrations []string

	// Journal is WAL when empty.
	Journal Journal
}

// ErrNewer is the error of Open when the file was written by a later version of the program.
var ErrNewer = errors.New("the database was written by a newer version")

// ErrNotDatabase is the error of Open when the file is damaged or isn't an SQLite database.
var ErrNotDatabase = errors.New("the file is damaged or not an SQLite database")

// Open opens a database and brings its schema up to date. A commit is on disk when it returns (synchronous=FULL).
// Foreign keys are enforced. The errors name the file.
func Open(ctx context.Context, p Params) (*sql.DB, error) {
	if info, err := os.Stat(filepath.Dir(p.Path)); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("opening database %s: its directory isn't there; create it or choose another file with --db", p.Path)
	}
	if p.Journal == "" {
		p.Journal = WAL
	}
	db, err := sql.Open("sqlite3", dataSource(p))
	if err != nil {
		return nil, fmt.Errorf("opening database %s: %w", p.Path, err)
	}
	// A few connections for readers; writers queue for the one that SQLite lets in.
	db.SetMaxOpenConns(8)
	db.SetMaxIdleConns(8)
	if err := migrate(ctx, db, p.Migrations); err != nil {
		return nil, errors.Join(fmt.Errorf("opening database %s: %w", p.Path, explain(err)), db.Close())
	}
	return db, nil
}

func dataSource(p Params) string {
	query := url.Values{"_pragma": {
		"busy_timeout(10000)",
		"journal_mode(" + string(p.Journal) + ")",
		"synchronous(full)",
		"foreign_keys(on)",
	}}
	return "file:" + (&url.URL{Path: filepath.ToSlash(p.Path)}).EscapedPath() + "?" + query.Encode()
}

func explain(err error) error {
	switch {
	case errors.Is(err, sqlite3.NOTADB), errors.Is(err, sqlite3.CORRUPT):
		return fmt.Errorf("%w: restore it from a backup, or move it away to start anew: %w", ErrNotDatabase, err)
	case errors.Is(err, sqlite3.CANTOPEN), errors.Is(err, sqlite3.READONLY):
		return fmt.Errorf("the file can't be written; check its permissions: %w", err)
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
		return fmt.Errorf("%w: its schema is %d, this program knows up to %d; start the newer version", ErrNewer,
			version, len(migrations))
	}
	for ; version < len(migrations); version++ {
		if _, err := tx.ExecContext(ctx, migrations[version]); err != nil {
			return fmt.Errorf("migrating the schema from %d to %d: %w", version, version+1, err)
		}
	}
	if _, err := tx.ExecContext(ctx, fmt.Sprintf(`PRAGMA user_version = %d`, version)); err != nil {
		return fmt.Errorf("noting the schema's version: %w", err)
	}
	return tx.Commit()
}

// Immediate returns the options of a transaction that keeps other writers out from its beginning (BEGIN IMMEDIATE), so
// that what it has read can't change before it writes.
func Immediate() *sql.TxOptions { return &sql.TxOptions{Isolation: sql.LevelSerializable} }
