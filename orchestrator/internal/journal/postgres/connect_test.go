package postgres

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/treatyhq/treaty/internal/postgrestest"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// changed returns a URL with a change.
func changed(t *testing.T, text string, change func(*url.URL)) string {
	t.Helper()
	parsed, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	change(parsed)
	return parsed.String()
}

// TestConnectRefusals connects with what can't work. Each error says what to do, and none has the password.
func TestConnectRefusals(t *testing.T) {
	const secret = "s3cret-of-the-test"
	database := postgrestest.Database(t)
	admin, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = admin.Close(context.Background()) }()
	do := func(sql string) {
		t.Helper()
		if _, err := admin.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	as := func(user, password string) func(*url.URL) {
		return func(u *url.URL) { u.User = url.UserPassword(user, password) }
	}
	for _, user := range []string{"powerless", "crowded", "readonly", "careless"} {
		user += fmt.Sprint(admin.PgConn().PID()) // users are the server's
		do(`CREATE ROLE ` + user + ` LOGIN PASSWORD '` + secret + `'`)
		defer do(`DROP ROLE ` + user)
	}
	id := fmt.Sprint(admin.PgConn().PID())
	do(`ALTER ROLE crowded` + id + ` CONNECTION LIMIT 0`)
	do(`ALTER ROLE readonly` + id + ` SET default_transaction_read_only = on`)
	do(`ALTER ROLE careless` + id + ` SET synchronous_commit = off`)
	do(`CREATE DATABASE ascii` + id + ` ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0`)
	defer do(`DROP DATABASE ascii` + id)

	store, err := Connect(t.Context(), newSchema(t, database), journal.Opening{Name: "one"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	inStore := database + "&search_path=" + store.pool.Config().ConnConfig.RuntimeParams["search_path"]
	for _, test := range []struct {
		name, url string
		opening   journal.Opening
		before    string // a statement in the store's schema
		want      error
		says      string
	}{
		{name: "not a URL", url: "postgres://acme:" + secret + "@host:port/db", says: "valid URL"},
		{name: "a bad port", url: "postgres://acme:" + secret + "@host:99999/db", says: "for the host"},
		{name: "a bad parameter", url: "postgres://acme:" + secret + "@host/db?sslmode=" + secret, says: "parameters"},
		{name: "a bad escape", url: "postgres://acme:" + secret + "%zz@host/db", says: "valid URL"},
		{
			name: "no server", url: changed(t, database, func(u *url.URL) { u.Host = "127.0.0.1:1" }),
			says: "server runs",
		},
		{
			name: "no database", url: changed(t, database, func(u *url.URL) { u.Path = "/missing" }),
			says: "create the database",
		},
		{name: "a wrong password", url: changed(t, database, as("powerless"+id, secret+"x")), says: "correct the user"},
		{name: "no rights", url: changed(t, database, as("powerless"+id, secret)), says: "grant it CREATE"},
		{
			name: "too few connections", url: changed(t, database, as("crowded"+id, secret)),
			says: "raise max_connections",
		},
		{
			name: "read-only", url: changed(t, database, as("readonly"+id, secret)), want: journal.ErrReadOnly,
			says: "name the primary",
		},
		{
			name: "not durable", url: changed(t, database, as("careless"+id, secret)),
			says: "synchronous_commit is off",
		},
		{
			name: "an encoding", url: changed(t, database, func(u *url.URL) { u.Path = "/ascii" + id }),
			says: "with the encoding UTF8",
		},
		{
			name: "another name", url: inStore, opening: journal.Opening{Name: "two"}, want: journal.ErrName,
			says: `"one"`,
		},
		{
			name: "a backup", url: inStore, opening: journal.Opening{Name: "one"}, want: journal.ErrBackup,
			before: `INSERT INTO identity VALUES ('backup_time', 'then')`, says: "restore it first",
		},
		{
			name: "a newer schema", url: inStore, opening: journal.Opening{Name: "one"}, want: journal.ErrVersion,
			before: `UPDATE schema_version SET version = version + 1`, says: "use the newer program",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.before != "" {
				execute(t, store, func(ctx context.Context, tx pgx.Tx) error {
					_, err := tx.Exec(ctx, test.before)
					return err
				})
			}
			d, err := Connect(t.Context(), test.url, test.opening)
			if d != nil || err == nil {
				t.Fatal("it was opened")
			}
			if test.want != nil && !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got the error %v, want %v and %q", err, test.want, test.says)
			}
			given, _ := url.Parse(database)
			password, _ := given.User.Password()
			if text := err.Error(); strings.Contains(text, secret) || strings.Contains(text, password) {
				t.Errorf("the error has the password: %v", err)
			}
		})
	}
}

func TestCheckServer(t *testing.T) {
	for version, want := range map[string]bool{
		"15.0": true, "18.1 (Debian 18.1-1)": true, "19devel": true, "14.12": false, "9.6.24": false, "": false,
		"x": false,
	} {
		err := checkServer(func(name string) string {
			return map[string]string{"server_version": version, "server_encoding": "UTF8"}[name]
		})
		if (err == nil) != want {
			t.Errorf("a server of version %q: %v", version, err)
		}
	}
}

func TestDiagnose(t *testing.T) {
	for code, want := range map[string]error{
		diskFull: journal.ErrFull, readOnlyTransaction: journal.ErrReadOnly, dataCorrupted: journal.ErrCorrupt,
	} {
		err := explain("append to the store", "postgres://host/db", &pgconn.PgError{Code: code})
		if !errors.Is(err, want) {
			t.Errorf("code %s: got %v, want %v", code, err, want)
		}
	}
}

// TestConnectAtOnce connects several times at once to a database without tables.
func TestConnectAtOnce(t *testing.T) {
	postgrestest.Each(t, func(t *testing.T, major int) {
		url := newSchema(t, postgrestest.DatabaseOn(t, major))
		var all sync.WaitGroup
		ids := make([]string, 6)
		for i := range ids {
			all.Go(func() {
				d, err := Connect(t.Context(), url, journal.Opening{Name: "acme"})
				if err != nil {
					t.Errorf("connect: %v", err)
					return
				}
				ids[i] = d.Identity().StoreID
				if err := d.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
		}
		all.Wait()
		for _, id := range ids {
			if id == "" || id != ids[0] {
				t.Errorf("the store's ids are %q, want one", ids)
			}
		}
	})
}

func TestOpenReadOnly(t *testing.T) {
	url := newSchema(t, postgrestest.Database(t))
	if _, err := OpenReadOnly(t.Context(), url); !errors.Is(err, journal.ErrNotFound) {
		t.Errorf("without a store: got the error %v, want ErrNotFound", err)
	}
	s := openShard(t, url, 3)
	defer func() { _ = s.Close() }()
	if err := s.Append(t.Context(), []*journal.Entry{startOf("a")}); err != nil {
		t.Fatal(err)
	}
	d, err := OpenReadOnly(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	open, err := d.Open(t.Context(), journal.OpenParams{Limit: 9})
	if err != nil || len(open) != 1 || open[0].Row.ID != "a" || open[0].Row.Shard != 3 {
		t.Errorf("the open sagas are %v, %v", open, err)
	}
	if d.Epoch() != s.Epoch() || d.Identity().StoreID != s.Identity().StoreID {
		t.Errorf("it is %+v, want the epoch and the id of %+v", d.Identity(), s.Identity())
	}
	if err := d.NoteTraced(t.Context(), open[0].Row.CreateTime); !errors.Is(err, journal.ErrReadOnly) {
		t.Errorf("writing: got the error %v, want ErrReadOnly", err)
	}
	if strings.Contains(d.Name(), "password") || !strings.HasPrefix(d.Name(), "postgres://") {
		t.Errorf("its name is %q", d.Name())
	}
}
