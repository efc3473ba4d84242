package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// migrations are the files that migrate the schema, each from the version before. A released file never changes.
//
//go:embed schema/*.sql
var migrations embed.FS

// migrationFiles returns the texts of the migrations, in order.
func migrationFiles() ([]string, error) {
	entries, err := migrations.ReadDir("schema")
	if err != nil {
		return nil, err
	}
	texts := make([]string, len(entries))
	for i, entry := range entries {
		text, err := migrations.ReadFile("schema/" + entry.Name())
		if err != nil {
			return nil, err
		}
		texts[i] = string(text)
	}
	return texts, nil
}

// maxMigrationTries is how often a migration is tried that others run at the same time.
const maxMigrationTries = 20

// migrate migrates the tables to this program's schema, in one transaction. Several processes may do this at the same
// time: each locks the row of the version first.
func migrate(ctx context.Context, conn *pgx.Conn) error {
	files, err := migrationFiles()
	if err != nil {
		return err
	}
	if version, err := schemaVersion(ctx, conn, ""); err != nil || version == len(files) {
		return err
	} else if version > len(files) {
		return newerSchema(version, len(files))
	}
	for try := 1; ; try++ {
		err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return migrateIn(ctx, tx, files) })
		// Of two processes that create the first table at the same time, one fails.
		if !isCode(err, uniqueViolation, duplicateTable, duplicateObject, serializationFailure, deadlockDetected) ||
			try == maxMigrationTries {
			return err
		}
	}
}

func migrateIn(ctx context.Context, tx pgx.Tx, files []string) error {
	const create = `CREATE TABLE IF NOT EXISTS schema_version (
		one boolean PRIMARY KEY DEFAULT true CHECK (one), version integer NOT NULL)`
	if _, err := tx.Exec(ctx, create); err != nil {
		return err
	}
	const insert = `INSERT INTO schema_version (version) VALUES (0) ON CONFLICT DO NOTHING`
	if _, err := tx.Exec(ctx, insert); err != nil {
		return err
	}
	version, err := schemaVersion(ctx, tx, " FOR UPDATE")
	if err != nil {
		return err
	}
	if version > len(files) {
		return newerSchema(version, len(files))
	}
	for i, text := range files[version:] {
		if _, err := tx.Exec(ctx, text, pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("migrate the schema to version %d: %w", version+i+1, err)
		}
	}
	_, err = tx.Exec(ctx, `UPDATE schema_version SET version = $1`, len(files))
	return err
}

// querier is a connection, a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// schemaVersion returns the version of the schema, or 0 if there are no tables.
func schemaVersion(ctx context.Context, q querier, suffix string) (version int, err error) {
	err = q.QueryRow(ctx, `SELECT version FROM schema_version`+suffix).Scan(&version)
	if isCode(err, undefinedTable) || errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	return version, err
}

func newerSchema(version, supported int) error {
	return fmt.Errorf("%w: its schema has version %d, this program supports %d; use the newer program",
		journal.ErrVersion, version, supported)
}

// The SQLSTATE codes that the store tells apart.
const (
	uniqueViolation       = "23505"
	duplicateTable        = "42P07"
	duplicateObject       = "42710"
	serializationFailure  = "40001"
	deadlockDetected      = "40P01"
	lockNotAvailable      = "55P03"
	undefinedTable        = "42P01"
	divisionByZero        = "22012"
	insufficientPrivilege = "42501"
	readOnlyTransaction   = "25006"
	diskFull              = "53100"
	tooManyConnections    = "53300"
	invalidPassword       = "28P01"
	invalidAuthorization  = "28000"
	noSuchDatabase        = "3D000"
	limitExceeded         = "54000"
	dataCorrupted         = "XX001"
	indexCorrupted        = "XX002"
	protocolViolation     = "08P01"
)

// isCode returns whether an error is the server's with one of some codes.
func isCode(err error, codes ...string) bool {
	code := codeOf(err)
	return code != "" && slices.Contains(codes, code)
}
