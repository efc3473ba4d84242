package sqlitedb

import (
	"context"
	"database/sql"
	"errors"

	"github.com/treatyhq/treaty/participant/inbox"
)

// Store is a participant's own database with the inbox in it. It may be used concurrently.
type Store struct {
	DB    *sql.DB
	Inbox *inbox.Inbox
}

// OpenStore opens a database as [Open] does, and the inbox in it.
func OpenStore(ctx context.Context, p Params, options inbox.Options) (*Store, error) {
	db, err := Open(ctx, p)
	if err != nil {
		return nil, err
	}
	in, err := inbox.OpenSQLite(ctx, db, options)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &Store{DB: db, Inbox: in}, nil
}

// Close closes the database.
func (s *Store) Close() error { return s.DB.Close() }
