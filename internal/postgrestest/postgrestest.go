// Package postgrestest gives tests databases of their own in a real PostgreSQL.
//
// The servers are those of package postgres: they are found or downloaded, and run on loopback until the test process
// ends, one for each major version that it asks for. They don't flush to the disk. A test that stops a server, or needs
// another setting, starts one of its own with postgres.Start.
package postgrestest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/treatyhq/treaty/internal/postgres"
)

// Versions are the major versions that everything on PostgreSQL is tested with.
var Versions = []int{postgres.Oldest, postgres.Newest}

// settings are for data that nobody will miss, for tests that open many connections, and for tests of deadlocks.
var settings = map[string]string{
	"fsync":            "off",
	"full_page_writes": "off",
	"max_connections":  "300",
	"deadlock_timeout": "100ms",
}

// Each runs a test in a subtest for each of [Versions].
func Each(t *testing.T, test func(t *testing.T, major int)) {
	t.Helper()
	for _, major := range Versions {
		t.Run("PostgreSQL "+strconv.Itoa(major), func(t *testing.T) { test(t, major) })
	}
}

// Database makes an empty database in a server of any supported version, and returns a URL that connects to it as
// superuser. It is dropped when the test ends, with the connections that it still has.
func Database(t testing.TB) string {
	t.Helper()
	return DatabaseOn(t, 0)
}

// DatabaseOn is [Database] in a server of one major version.
func DatabaseOn(t testing.TB, major int) string {
	t.Helper()
	server := Server(t, major)
	name := fmt.Sprintf("test%d", databases.Add(1))
	if err := execute(t.Context(), server, "CREATE DATABASE "+name); err != nil {
		t.Fatalf("creating a database: %v", err)
	}
	t.Cleanup(func() {
		// The test's context has ended.
		if err := execute(context.Background(), server, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("dropping the test's database: %v", err)
		}
	})
	return server.DSN(name)
}

var databases atomic.Int64

func execute(ctx context.Context, server *postgres.Server, statement string) (err error) {
	connection, err := pgx.Connect(ctx, server.DSN("postgres"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, connection.Close(ctx)) }()
	_, err = connection.Exec(ctx, statement)
	return err
}

var (
	mu      sync.Mutex
	servers = make(map[int]*postgres.Server) // by major version, or 0
)

// Server returns the server of this test process with a major version, or with 0 of any. It fails the test if it can't
// be started. Tests share it, so none may stop it.
func Server(t testing.TB, major int) *postgres.Server {
	t.Helper()
	mu.Lock()
	defer mu.Unlock()
	if server := servers[major]; server != nil {
		return server
	}
	if major == 0 {
		for _, server := range servers {
			return server
		}
	}
	server, err := postgres.Start(t.Context(), postgres.Config{Major: major, Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	servers[major] = server
	servers[server.Programs().Major] = server
	return server
}
