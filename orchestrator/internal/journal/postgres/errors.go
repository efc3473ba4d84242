package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// codeOf returns the SQLSTATE code of a server's error, or an empty text.
func codeOf(err error) string {
	if of, is := errors.AsType[*pgconn.PgError](err); is {
		return of.Code
	}
	return ""
}

// explain adds to an error what was being done, its cause in terms of package journal, and what to do next. The name is
// the database's, without a password.
func explain(doing, name string, err error) error {
	if err == nil {
		return nil
	}
	cause, advice := diagnose(err)
	switch {
	case cause == nil && advice == "":
		return fmt.Errorf("%s %s: %w", doing, name, err)
	case cause == nil:
		return fmt.Errorf("%s %s: %w; %s", doing, name, err, advice)
	default:
		return fmt.Errorf("%s %s: %w: %w; %s", doing, name, cause, err, advice)
	}
}

// diagnose returns the cause of an error in terms of package journal, or nil, and what to do next, or "".
func diagnose(err error) (cause error, advice string) { //nolint:revive,staticcheck // The cause is a result.
	var connect *pgconn.ConnectError
	switch code := codeOf(err); {
	case errors.Is(err, context.Canceled), errors.Is(err, errReadOnlyServer):
		return nil, ""
	case code == noSuchDatabase:
		return nil, "create the database, or correct the name in the store's URL"
	case code == invalidPassword, code == invalidAuthorization:
		return nil, "correct the user and the password in the store's URL, or the server's pg_hba.conf"
	case code == insufficientPrivilege:
		return nil, "let the user own the database, or grant it CREATE and USAGE on the schema and all rights on its " +
			"tables"
	case code == tooManyConnections:
		return nil, "raise max_connections of the server, or lower pool_max_conns in the store's URL"
	case code == diskFull:
		return journal.ErrFull, "free some space on the database's server; nothing that was acknowledged is lost"
	case code == readOnlyTransaction:
		return journal.ErrReadOnly, "name the primary in the store's URL; nothing that was acknowledged is lost"
	case code == dataCorrupted, code == indexCorrupted:
		return journal.ErrCorrupt, "stop the orchestrators, and restore the database from a backup"
	case code == protocolViolation:
		return nil, "behind PgBouncer, add default_query_exec_mode=cache_describe to the store's URL"
	case errors.As(err, &connect):
		return nil, "check that the database's server runs and can be reached"
	}
	return nil, ""
}

// errReadOnlyServer is the error of a server that doesn't accept writes.
var errReadOnlyServer = fmt.Errorf("%w: the server is a standby, or its transactions are read-only; name the primary "+
	"in the store's URL, or all servers", journal.ErrReadOnly)
