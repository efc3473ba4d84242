package inbox_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib" // registers the "pgx" driver

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/internal/postgres"
	"github.com/treatyhq/treaty/internal/postgrestest"
	"github.com/treatyhq/treaty/participant"
	"github.com/treatyhq/treaty/participant/inbox"
	"github.com/treatyhq/treaty/participant/inbox/pgxinbox"
)

// A backend is a kind of database that all tests of the suite run on.
type backend struct {
	name string

	// noBytes is an empty value of bytes in SQL.
	noBytes string

	// place returns a data source name for a database that is empty.
	place func(t *testing.T) string

	// openWith opens a service in the database that place has returned. Each time is like another process.
	openWith func(t *testing.T, place string, options inbox.Options) *service
}

// each runs a test of the suite on every backend.
func each(t *testing.T, test func(t *testing.T, b backend)) {
	t.Helper()
	for _, b := range []backend{
		{name: "SQLite", noBytes: "x''", place: sqlitePlace, openWith: openWith},
		{name: "PostgreSQL 15", noBytes: "''", place: postgresPlace(postgres.Oldest), openWith: openPostgres},
		{name: "PostgreSQL 18", noBytes: "''", place: postgresPlace(postgres.Newest), openWith: openPostgres},
		{name: "pgx", noBytes: "''", place: postgresPlace(postgres.Newest), openWith: openPgx},
	} {
		t.Run(b.name, func(t *testing.T) { test(t, b) })
	}
}

func (b backend) open(t *testing.T, place string) *service {
	t.Helper()
	return b.openWith(t, place, inbox.Options{Methods: []string{changeAddress}})
}

// fresh opens a service in an empty database.
func (b backend) fresh(t *testing.T) *service {
	t.Helper()
	return b.open(t, b.place(t))
}

func sqlitePlace(t *testing.T) string {
	t.Helper()
	return inbox.SQLiteDSN(filepath.Join(t.TempDir(), "service.db"))
}

var schemas atomic.Int64

// postgresPlace makes a schema in a database of the process, which takes less time than a database.
func postgresPlace(major int) func(t *testing.T) string {
	return func(t *testing.T) string {
		t.Helper()
		dsn := postgrestest.Server(t, major).DSN("postgres")
		db, err := sql.Open("pgx", dsn)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = db.Close() }()
		schema := fmt.Sprintf("s%d", schemas.Add(1))
		if _, err := db.ExecContext(t.Context(), `CREATE SCHEMA `+schema); err != nil {
			t.Fatal(err)
		}
		return dsn + "&search_path=" + url.QueryEscape(schema)
	}
}

const postgresEffects = `CREATE TABLE IF NOT EXISTS effects (
	n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, command_id text, direction text)`

func openPostgres(t *testing.T, place string, options inbox.Options) *service {
	t.Helper()
	db, err := sql.Open("pgx", place)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	db.SetMaxOpenConns(50) // as a service does whose server has a limit
	if _, err := db.ExecContext(t.Context(), postgresEffects); err != nil {
		t.Fatal(err)
	}
	in, err := inbox.OpenPostgres(t.Context(), db, options)
	if err != nil {
		t.Fatal(err)
	}
	return &service{db: db, inbox: in, postgres: true}
}

// openPgx opens a service whose handlers use pgx without package sql.
func openPgx(t *testing.T, place string, options inbox.Options) *service {
	t.Helper()
	s := openPostgres(t, place, options)
	pool, err := pgxpool.New(t.Context(), place)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	if s.inbox, err = pgxinbox.Open(t.Context(), pool, options); err != nil {
		t.Fatal(err)
	}
	s.pgx = true
	return s
}

// callPgx is call for handlers that use pgx.
func (s *service) callPgx(ctx context.Context, commandID string, c call) (string, error) {
	effect := func(tx *pgxinbox.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO effects (command_id, direction) VALUES ($1, $2)`, commandID,
			string(c.direction))
		return errors.Join(err, c.fails)
	}
	if c.direction == participant.Compensation {
		_, err := pgxinbox.Handle(ctx, s.inbox, func(tx *pgxinbox.Tx) (*customerv1.AddressRestored, error) {
			return &customerv1.AddressRestored{}, effect(tx)
		})
		return "restored", err
	}
	reply, err := pgxinbox.Handle(ctx, s.inbox, func(tx *pgxinbox.Tx) (*customerv1.AddressChanged, error) {
		if err := effect(tx); err != nil {
			return nil, err
		}
		var n int64
		err := tx.QueryRow(ctx, `SELECT count(*) FROM effects`).Scan(&n)
		return &customerv1.AddressChanged{Customer: commandID, AddressRevision: n}, err
	})
	return fmt.Sprintf("changed %d", reply.GetAddressRevision()), err
}

// lockable adds what PostgreSQL keeps of a command besides its rows, for rows that a test has inserted itself.
func (s *service) lockable(t *testing.T) {
	t.Helper()
	if !s.postgres {
		return
	}
	if _, err := s.db.ExecContext(t.Context(), `INSERT INTO treaty_inbox_commands
		SELECT DISTINCT command_id FROM treaty_inbox ON CONFLICT (command_id) DO NOTHING`); err != nil {
		t.Fatal(err)
	}
}
