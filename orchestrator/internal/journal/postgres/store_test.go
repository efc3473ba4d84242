package postgres

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/treatyhq/treaty/internal/postgrestest"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/journaltest"
)

func TestStore(t *testing.T) {
	postgrestest.Each(t, func(t *testing.T, major int) {
		database := postgrestest.DatabaseOn(t, major)
		urls := make(map[string]string) // by directory
		var free []string               // schemas that can be used again, which is quicker than to make new ones
		journaltest.Exercise(t, func(t *testing.T, dir string) journaltest.Store {
			if urls[dir] == "" {
				if len(free) == 0 {
					free = append(free, newSchema(t, database))
				}
				url := free[len(free)-1]
				urls[dir], free = url, free[:len(free)-1]
				t.Cleanup(func() { // after the store was closed
					clearSchema(t, url)
					free = append(free, url)
				})
			}
			return openShard(t, urls[dir], 0)
		})
	})
}

// clearSchema deletes all rows of a store.
func clearSchema(t testing.TB, url string) {
	t.Helper()
	ctx := context.Background() // the test's own has ended
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, `DO $$ DECLARE name text; BEGIN
		FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = current_schema()
			AND tablename NOT IN ('schema_version', 'event_counter', 'event_buckets', 'saga_keys')
		LOOP EXECUTE 'DELETE FROM ' || quote_ident(name); END LOOP;
		UPDATE event_counter SET newest = 0;
	END $$`)
	if err != nil {
		t.Error(err)
	}
}

var schemas atomic.Int64

// newSchema makes an empty schema, which is quicker than a database, and returns a URL for it.
func newSchema(t testing.TB, url string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	name := fmt.Sprintf("schema%d", schemas.Add(1))
	if _, err := conn.Exec(t.Context(), "CREATE SCHEMA "+name); err != nil {
		t.Fatal(err)
	}
	return url + "&search_path=" + name
}

// openShard connects to a database as a new member, and takes a shard from its owner. The caller closes it.
func openShard(t testing.TB, url string, shard int) *Shard {
	t.Helper()
	d, err := Connect(t.Context(), url, journal.Opening{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := d.Shard(t.Context(), takeShard(t, d, newMember(t, d), shard))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// newMember adds a member that may own shards.
func newMember(t testing.TB, d *Database) string {
	t.Helper()
	var n int
	execute(t, d, func(ctx context.Context, tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM fences`).Scan(&n); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO fences (member, lane) SELECT $1, generate_series(0, 3)`,
			fmt.Sprintf("member-%d", n))
		return err
	})
	return fmt.Sprintf("member-%d", n)
}

// takeShard gives a shard to a member, as a takeover does.
func takeShard(t testing.TB, d *Database, member string, shard int) Owned {
	t.Helper()
	owned := Owned{Shard: shard, Member: member}
	execute(t, d, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO shards (shard) VALUES ($1) ON CONFLICT DO NOTHING`, shard); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE fences SET fenced = true
			WHERE member = (SELECT owner FROM shards WHERE shard = $1 AND owner <> $2)`, shard, member); err != nil {
			return err
		}
		var before int64
		if err := tx.QueryRow(ctx, `SELECT epoch FROM shards WHERE shard = $1`, shard).Scan(&before); err != nil {
			return err
		}
		owned.Epoch, _ = journal.Opening{}.NextEpoch(uint64(before))
		_, err := tx.Exec(ctx, `UPDATE shards SET owner = $2, previous_epoch = epoch, epoch = $3 WHERE shard = $1`,
			shard, member, int64(owned.Epoch))
		return err
	})
	return owned
}

func execute(t testing.TB, d *Database, f func(ctx context.Context, tx pgx.Tx) error) {
	t.Helper()
	err := pgx.BeginFunc(t.Context(), d.pool, func(tx pgx.Tx) error { return f(t.Context(), tx) })
	if err != nil {
		t.Fatal(err)
	}
}
