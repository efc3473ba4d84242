package postgres_test

import (
	"context"
	"crypto/rand"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/treatyhq/treaty/internal/postgrestest"
	"github.com/treatyhq/treaty/orchestrator/internal/cluster"
	"github.com/treatyhq/treaty/orchestrator/internal/cluster/clustertest"
	"github.com/treatyhq/treaty/orchestrator/internal/cluster/postgres"
)

// tablesFile has the tables. The store creates them.
const tablesFile = "../../journal/postgres/schema/0001_cluster.sql"

func TestDirectory(t *testing.T) {
	postgrestest.Each(t, func(t *testing.T, major int) {
		url := postgrestest.DatabaseOn(t, major)
		clustertest.Exercise(t, func(t *testing.T) clustertest.Directory {
			database := newDatabase(t, url)
			return &directory{Directory: database.directory, connection: database.connect()}
		})
	})
}

// directory is a directory that the suite can test.
type directory struct {
	*postgres.Directory

	connection *pgx.Conn
}

func (d *directory) SetEpoch(ctx context.Context, shard int, epoch uint64) error {
	_, err := d.connection.Exec(ctx, "UPDATE shards SET epoch = $2 WHERE shard = $1", shard, int64(epoch))
	return err
}

// database holds the tables of one cluster.
type database struct {
	t         *testing.T
	url       string
	directory *postgres.Directory
}

// newDatabase makes the tables in a schema of their own, which takes less time than a database of their own.
func newDatabase(t *testing.T, url string) *database {
	t.Helper()
	schema := "s" + strings.ToLower(rand.Text())
	separator := "?"
	if strings.Contains(url, separator) {
		separator = "&"
	}
	d := &database{t: t, url: url + separator + "search_path=" + schema}
	tables, err := os.ReadFile(tablesFile)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.connect().Exec(t.Context(), "CREATE SCHEMA "+schema+";"+string(tables)); err != nil {
		t.Fatal(err)
	}
	d.directory = d.open()
	return d
}

func (d *database) open() *postgres.Directory {
	d.t.Helper()
	directory, err := postgres.Open(d.url)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(directory.Close)
	return directory
}

func (d *database) connect() *pgx.Conn {
	d.t.Helper()
	connection, err := pgx.Connect(d.t.Context(), d.url)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() {
		if err := connection.Close(context.Background()); err != nil {
			d.t.Error(err)
		}
	})
	return connection
}

func TestPasswordIsNeverShown(t *testing.T) {
	for name, url := range map[string]string{
		"wrong URL":    "postgres://treaty:secret@127.0.0.1:port/treaty",
		"wrong option": "postgres://treaty:secret@127.0.0.1/treaty?sslmode=maybe",
		"no server":    "postgres://treaty:secret@127.0.0.1:1/treaty?sslmode=disable",
	} {
		t.Run(name, func(t *testing.T) {
			directory, err := postgres.Open(url)
			if err == nil {
				defer directory.Close()
				_, err = directory.Join(t.Context(), cluster.Joining{Member: "a", Lease: cluster.DefaultLease})
			}
			if err == nil || strings.Contains(err.Error(), "secret") {
				t.Errorf("error %v, want one without the password", err)
			}
		})
	}
}
