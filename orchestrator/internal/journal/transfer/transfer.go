// Package transfer moves a store of one kind to another kind.
package transfer

import (
	"context"
	"errors"
	"fmt"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/postgres"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/sqlite"
)

// Params says what to move.
type Params struct {
	// From is the path of a SQLite store that isn't open.
	From string

	// To is the URL of an empty PostgreSQL database.
	To string

	// Name is the name of the orchestrator that the store belongs to.
	Name string

	// Shards is the number of shards of the database if it has none yet.
	Shards int
}

// ToPostgres moves a SQLite store into PostgreSQL. All of it is there, or nothing. Then the SQLite store is marked as
// replaced, so that no orchestrator drives its sagas any more. If only that fails, the error says so.
//
// The errors are those of sqlite.Open and postgres.Import. The call may be repeated after an error, with an empty
// database.
func ToPostgres(ctx context.Context, params Params) (err error) {
	source, err := sqlite.Open(ctx, params.From, journal.Opening{Name: params.Name})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	if replaced := source.Identity().Replaced; replaced != "" {
		return fmt.Errorf("move the store %s: %w: it was replaced: %s", source.Name(), journal.ErrInvalid, replaced)
	}
	if err := postgres.Import(ctx, params.To, postgres.ImportParams{
		Identity: source.Identity(), Shards: params.Shards, Read: source.Export,
	}); err != nil {
		return err
	}
	if err := source.MarkReplaced(ctx, "it was moved into a PostgreSQL database", 0); err != nil {
		return fmt.Errorf("the store was moved, but the old one isn't marked as replaced, so delete it: %w", err)
	}
	return nil
}
