package postgrestest_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/treatyhq/treaty/internal/postgrestest"
)

// Databases of one server are apart from each other, and their tests needn't close what they open.
func TestDatabases(t *testing.T) {
	postgrestest.Each(t, func(t *testing.T, major int) {
		var dropped string
		t.Run("one", func(t *testing.T) {
			dropped = postgrestest.DatabaseOn(t, major)
			one, other := connect(t, dropped), connect(t, postgrestest.DatabaseOn(t, major))
			var version int
			err := one.QueryRow(t.Context(), "SELECT current_setting('server_version_num')::int / 10000").Scan(&version)
			if err != nil || version != major {
				t.Errorf("the server has the version %d (error: %v)", version, err)
			}
			for _, connection := range []*pgx.Conn{one, other} {
				if _, err := connection.Exec(t.Context(), "CREATE TABLE t (n int)"); err != nil {
					t.Error(err)
				}
			}
		})
		if _, err := pgx.Connect(t.Context(), dropped); err == nil || !strings.Contains(err.Error(), "does not exist") {
			t.Errorf("connecting to the database of a test that has ended: %v", err)
		}
		if one, other := postgrestest.Server(t, major), postgrestest.Server(t, major); one != other {
			t.Error("one process has two servers of a version")
		}
	})
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	connection, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	return connection
}
