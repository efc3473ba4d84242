package stores

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/postgres"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/sqlite"
)

// schemes lists the kinds of stores.
var schemes = []scheme{
	{"", `a SQLite file ("treaty.db")`, store(sqlite.Open), reader(sqlite.OpenReadOnly), sqlite.Backup,
		sqlite.BackupProgress, sqlite.Restore},
	{"postgres", `a PostgreSQL database ("postgres://host/database")`, notAlone, reader(postgres.OpenReadOnly),
		noBackup, noProgress, postgres.Restore},
	{"postgresql", `a PostgreSQL database ("postgresql://host/database")`, notAlone, reader(postgres.OpenReadOnly),
		noBackup, noProgress, postgres.Restore},
}

func notAlone(context.Context, string, journal.Opening) (Store, error) {
	return nil, errors.New("a PostgreSQL database isn't opened as a whole")
}

func noBackup(context.Context, string, string) (time.Time, error) {
	return time.Time{}, errors.New("back up a PostgreSQL database with its own tools, such as pg_basebackup")
}

func noProgress(string, string) (written, whole int64) { return 0, 0 }

// scheme is a kind of store.
type scheme struct {
	name         string // what its URLs have before "://"; empty for a path
	example      string // a URL, in words, to end the sentence "name ..."
	open         func(ctx context.Context, url string, opening journal.Opening) (Store, error)
	openReadOnly func(ctx context.Context, url string) (Reader, error)
	backup       func(ctx context.Context, url, to string) (time.Time, error)
	written      func(url, to string) (written, whole int64)
	restore      func(ctx context.Context, url string, params journal.RestoreParams) (journal.Restored, error)
}

// find returns the kind of store that a URL names.
func find(url string) (scheme, error) {
	if url == "" {
		return scheme{}, fmt.Errorf("the store has no name: name %s", examples())
	}
	name, _, found := strings.Cut(url, "://")
	if !found {
		name = ""
	} else if name == "" {
		return scheme{}, fmt.Errorf(`the store's URL has nothing before "://": name %s`, examples())
	}
	for _, s := range schemes {
		if s.name == name {
			return s, nil
		}
	}
	return scheme{}, fmt.Errorf("stores of the kind %q are not supported: name %s", name, examples())
}

func examples() string {
	all := make([]string, len(schemes))
	for i, s := range schemes {
		all[i] = s.example
	}
	return strings.Join(all, " or ")
}

// store makes a function that opens one kind of store open any store.
func store[S Store](
	open func(context.Context, string, journal.Opening) (S, error),
) func(context.Context, string, journal.Opening) (Store, error) {
	return func(ctx context.Context, url string, opening journal.Opening) (Store, error) {
		opened, err := open(ctx, url, opening)
		if err != nil {
			return nil, err // opened is a nil pointer, which isn't a nil Store
		}
		return opened, nil
	}
}

// reader is store for OpenReadOnly.
func reader[R Reader](open func(context.Context, string) (R, error)) func(context.Context, string) (Reader, error) {
	return func(ctx context.Context, url string) (Reader, error) {
		opened, err := open(ctx, url)
		if err != nil {
			return nil, err // opened is a nil pointer, which isn't a nil Reader
		}
		return opened, nil
	}
}
