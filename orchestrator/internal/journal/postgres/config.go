package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// minVersion is the oldest major version of PostgreSQL that the store works with.
const minVersion = 15

// sessionSettings are the settings of each connection. A process that is stopped in the middle of a transaction must
// not keep its locks, and one that waits for a lock tries the whole transaction again.
//
// There is no statement_timeout: it would also end the wait for a synchronous standby, and the transaction would be
// acknowledged without it.
var sessionSettings = map[string]string{
	"application_name":                    "treaty",
	"idle_in_transaction_session_timeout": "5s",
	"lock_timeout":                        "5s",
	"default_transaction_isolation":       "read committed",
}

// localSettings sets the same in one transaction, for connections through a pooler that don't keep settings.
const localSettings = `SELECT set_config('idle_in_transaction_session_timeout', '5s', true),
	set_config('lock_timeout', '5s', true)`

// parseURL returns the configuration of a pool. The error never has the URL, which may hold a password.
func parseURL(text string) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(text)
	if err != nil {
		// The error's own text may repeat parts of the URL.
		cause := errors.New("it isn't a valid URL of PostgreSQL")
		if parsed, err := url.Parse(text); err == nil && parsed.Host != "" {
			cause = fmt.Errorf("a part of it is invalid, for the host %s: check the port and the parameters",
				parsed.Hostname())
		}
		return nil, fmt.Errorf("read the store's URL: %w; it has the form postgres://user:password@host:port/database",
			cause)
	}
	if !pooled(config.ConnConfig) {
		for name, value := range sessionSettings {
			if _, given := config.ConnConfig.RuntimeParams[name]; !given {
				config.ConnConfig.RuntimeParams[name] = value
			}
		}
	}
	return config, nil
}

// pooled returns whether connections go through a pooler in transaction mode: the URL then says that no statement is
// kept.
func pooled(config *pgx.ConnConfig) bool {
	return config.DefaultQueryExecMode != pgx.QueryExecModeCacheStatement
}

// nameOf returns where a database is, without a password.
func nameOf(config *pgx.ConnConfig) string {
	var hosts []string
	add := func(host string, port uint16) {
		address := net.JoinHostPort(host, strconv.Itoa(int(port)))
		if !slices.Contains(hosts, address) {
			hosts = append(hosts, address)
		}
	}
	add(config.Host, config.Port)
	for _, fallback := range config.Fallbacks {
		add(fallback.Host, fallback.Port)
	}
	name := "postgres://"
	if config.User != "" {
		name += url.PathEscape(config.User) + "@"
	}
	return name + strings.Join(hosts, ",") + "/" + url.PathEscape(config.Database)
}

// checkServer returns an error if the store can't work with a server.
func checkServer(parameter func(name string) string) error {
	text := parameter("server_version")
	major, _, _ := strings.Cut(text, ".")
	if at := strings.IndexFunc(major, func(r rune) bool { return r < '0' || r > '9' }); at >= 0 {
		major = major[:at] // such as 19devel
	}
	if version, err := strconv.Atoi(major); err != nil || version < minVersion {
		return fmt.Errorf("the server has version %q: it must be PostgreSQL %d or newer", text, minVersion)
	}
	if encoding := parameter("server_encoding"); encoding != "UTF8" {
		return fmt.Errorf("the database's encoding is %q: create it with the encoding UTF8", encoding)
	}
	return nil
}

// refuseReadOnly refuses connections to servers that don't accept writes, so that the next host of the URL is tried.
func refuseReadOnly(ctx context.Context, conn *pgconn.PgConn) error {
	result := conn.ExecParams(ctx, "SHOW transaction_read_only", nil, nil, nil, nil).Read()
	if result.Err != nil {
		return result.Err
	}
	if len(result.Rows) == 1 && string(result.Rows[0][0]) == "on" {
		return errReadOnlyServer
	}
	return nil
}
