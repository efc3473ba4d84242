package sqlitedb_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/treatyhq/treaty/services/internal/sqlitedb"
)

func TestMigrations(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a directory with # and ?", "x.db")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	one := []string{`CREATE TABLE a (x INTEGER); INSERT INTO a VALUES (1)`}
	two := append(one, `INSERT INTO a VALUES (2)`)
	for i, migrations := range [][]string{one, one, two, two} {
		db, err := sqlitedb.Open(t.Context(), sqlitedb.Params{Path: path, Migrations: migrations})
		if err != nil {
			t.Fatal(err)
		}
		var n int
		if err := db.QueryRow(`SELECT count(*) FROM a`).Scan(&n); err != nil || n != len(migrations) {
			t.Errorf("open %d: %d rows, %v; want %d", i, n, err, len(migrations))
		}
		for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1"} {
			var got string
			if err := db.QueryRow(`PRAGMA ` + pragma).Scan(&got); err != nil || got != want {
				t.Errorf("%s is %q, %v; want %q", pragma, got, err, want)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := sqlitedb.Open(t.Context(), sqlitedb.Params{Path: path, Migrations: one}); !errors.Is(err,
		sqlitedb.ErrNewer) {
		t.Errorf("an older program: %v, want ErrNewer", err)
	}
	// A migration that fails changes nothing.
	broken := append(two, `INSERT INTO a VALUES (3); SELECT nonsense`)
	if _, err := sqlitedb.Open(t.Context(), sqlitedb.Params{Path: path, Migrations: broken}); err == nil ||
		!strings.Contains(err.Error(), "from 2 to 3") {
		t.Errorf("a broken migration: %v", err)
	}
	db, err := sqlitedb.Open(t.Context(), sqlitedb.Params{Path: path, Migrations: two})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	var n int
	if err := db.QueryRow(`SELECT count(*) FROM a`).Scan(&n); err != nil || n != 2 {
		t.Errorf("after a broken migration: %d rows, %v; want 2", n, err)
	}
}

func TestBadFiles(t *testing.T) {
	directory := t.TempDir()
	garbage := filepath.Join(directory, "garbage.db")
	if err := os.WriteFile(garbage, bytes.Repeat([]byte("garbage "), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sqlitedb.Open(t.Context(), sqlitedb.Params{Path: garbage}); !errors.Is(err, sqlitedb.ErrNotDatabase) ||
		!strings.Contains(err.Error(), garbage) {
		t.Errorf("garbage: %v, want ErrNotDatabase with the file's name", err)
	}
	for _, path := range []string{filepath.Join(directory, "none", "x.db"), directory} {
		if _, err := sqlitedb.Open(t.Context(), sqlitedb.Params{Path: path}); err == nil ||
			!strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want an error with its name", path, err)
		}
	}
}

// TestFilesArePrivate checks who can read the files of a database while it is open.
func TestFilesArePrivate(t *testing.T) {
	for journal, suffixes := range map[sqlitedb.Journal][]string{
		sqlitedb.WAL: {"", "-wal", "-shm"}, sqlitedb.Rollback: {"", "-journal"},
	} {
		path := filepath.Join(t.TempDir(), "x.db")
		db, err := sqlitedb.Open(t.Context(), sqlitedb.Params{
			Path: path, Journal: journal, Migrations: []string{`CREATE TABLE a (x INTEGER)`},
		})
		if err != nil {
			t.Fatal(err)
		}
		tx, err := db.BeginTx(t.Context(), sqlitedb.Immediate())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.ExecContext(t.Context(), `INSERT INTO a VALUES (1)`); err != nil {
			t.Fatal(err)
		}
		for _, suffix := range suffixes {
			if info, err := os.Stat(path + suffix); err != nil {
				t.Error(err)
			} else if info.Mode() != 0o600 {
				t.Errorf("journal %s: %s has the mode %v", journal, info.Name(), info.Mode())
			}
		}
		if err := errors.Join(tx.Commit(), db.Close()); err != nil {
			t.Fatal(err)
		}
	}
}
