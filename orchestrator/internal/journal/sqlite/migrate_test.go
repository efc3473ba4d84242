package sqlite

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// oldStore creates a file with an older version of the schema and sagas in every state, and returns its path.
func oldStore(t *testing.T, version int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sagas.db")
	conn, err := sqlite3.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	run := func(sql string) {
		t.Helper()
		if err := conn.Exec(sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	run("PRAGMA journal_mode = WAL")
	for _, migration := range migrations[:version] {
		run(migration)
	}
	run(fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d", applicationID, version))
	run("UPDATE meta SET value = 7 WHERE name = 'epoch'; INSERT INTO definitions VALUES (1, 'X/Y')")
	for state := 1; state <= 5; state++ {
		end := "NULL"
		if state >= 4 {
			end = "3000000"
		}
		run(fmt.Sprintf(`INSERT INTO sagas (key, id, definition, state, create_time, update_time, end_time, due, labels)
			VALUES (%[1]d, 's%[1]d', 1, %[1]d, 1000000, 2000000, %[2]s, 4000000, '{"label":"value"}');
			INSERT INTO labels VALUES ('label', 'value', %[1]d);
			INSERT INTO turns (position, data)
				VALUES (%[1]d << 24 | 1, x'6f6e65'), (%[1]d << 24 | 2, x'74776f')`, state, end))
	}
	return path
}

// TestMigrate opens files of every earlier version, and reads and writes them.
func TestMigrate(t *testing.T) {
	for version := 1; version < len(migrations); version++ {
		t.Run(fmt.Sprintf("from %d", version), func(t *testing.T) {
			path := oldStore(t, version)
			store := openAt(t, path)
			if got := store.Identity().PreviousEpoch; got != 7 {
				t.Errorf("the epoch before is %d, want 7", got)
			}
			ctx := t.Context()
			const first, last = treatyv1.SagaState_SAGA_STATE_RUNNING, treatyv1.SagaState_SAGA_STATE_COMPENSATED
			for state := first; state <= last; state++ {
				saga, err := store.Load(ctx, fmt.Sprintf("s%d", state))
				if err != nil {
					t.Fatal(err)
				}
				row := saga.Row
				if row.State != state || row.Definition != "X/Y" || row.Labels["label"] != "value" ||
					row.Waiting || len(row.Awaits) > 0 ||
					!row.CreateTime.Equal(time.Unix(1, 0)) || !row.Due.Equal(time.Unix(4, 0)) ||
					len(saga.Turns) != 2 || saga.Turns[0].Number != 1 || string(saga.Turns[1].Data) != "two" {
					t.Errorf("got %+v", saga)
				}
			}
			for which, want := range map[journal.OpenSagas]int{journal.Driven: 2, journal.Unended: 3} {
				open, err := store.Open(ctx, journal.OpenParams{Limit: 10, Which: which})
				if err != nil || len(open) != want {
					t.Errorf("%d sagas are open, %v; want %d", len(open), err, want)
				}
			}

			// Its sagas can do everything that new ones can.
			waits := &journal.Row{
				ID: "s1", State: first, UpdateTime: time.Unix(5, 0),
				Waiting: true, Awaits: []journal.Await{{Type: "T", Subject: "s"}},
			}
			restarted := &journal.Row{ID: "s4", State: first, UpdateTime: time.Unix(5, 0)}
			group := []*journal.Entry{
				{Saga: "s1", Turn: 3, Row: waits},
				{Saga: "s4", Turn: 3, Row: restarted, NewRound: true},
				{Events: []*journal.Event{{Source: "a", ID: "1", Type: "T", Subject: "s", StoreTime: time.Unix(6, 0)}}},
			}
			if err := store.Append(ctx, group); err != nil {
				t.Fatal(err)
			}
			if woken := group[2].Woken; len(woken) != 1 || woken[0] != "s1" {
				t.Errorf("woken are %q", woken)
			}
			if saga, err := store.Load(ctx, "s4"); err != nil || len(saga.Turns) != 1 || saga.Turns[0].Number != 3 {
				t.Errorf("the journal that was restarted: %+v, %v", saga, err)
			}
			params := journal.PurgeParams{Definitions: []string{"X/Y"}, EndedBefore: time.Unix(9, 0), Limit: 10}
			if n, err := store.Purge(ctx, params); err != nil || n != 1 {
				t.Errorf("%d sagas were purged, %v; want 1", n, err)
			}
			if err := store.check(ctx); err != nil {
				t.Error(err)
			}
			if err := store.Close(); err != nil {
				t.Error(err)
			}
			epoch := store.Epoch()
			if store = openAt(t, path); store.Identity().PreviousEpoch != epoch {
				t.Errorf("the store says %+v, want the epoch %d before", store.Identity(), epoch)
			}
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestViewsCutTimesOff checks that the views show the same times as the CLI, which cuts them off to milliseconds, and
// says when the last turn of a saga that runs was made.
func TestViewsCutTimesOff(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sagas.db")
	if err := openAt(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	conn, err := sqlite3.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, sql := range []string{
		`INSERT INTO sagas (key, id, definition, state, create_time, update_time, end_time, due, labels, request_id)
			VALUES (1, 'a', 1, 1, 1777888800000999, 1777888800000500, NULL, 1777888800999999, '{}', 'r-1')`,
		`INSERT INTO events (position, source, id, type, subject, time, store_time, data)
			VALUES (1, 's', '1', 1, 'x', 1777888800001999, 1777888799999999, x'')`,
		`INSERT INTO sagas (key, id, definition, state, create_time, update_time, end_time, due, labels)
			VALUES (2, 'moved', 1, 1, 1777888800000000, 1777888800000000, NULL, 1777888900000000, '{}'),
				(3, 'ended', 1, 4, 1777888800000000, 1777888800000000, NULL, 1777888900000000, '{}')`,
		`INSERT INTO turns (position, data, time) VALUES (2 << 24 | 1, x'', 1777888800000000),
			(2 << 24 | 2, x'', 1777888807000999), (3 << 24 | 1, x'', 1777888807000999)`,
	} {
		if err := conn.Exec(sql); err != nil {
			t.Fatal(err)
		}
	}
	for sql, want := range map[string]int64{
		`saga_list WHERE create_time = '2026-05-04T10:00:00.000Z'`:  3,
		`saga_list WHERE update_time = '2026-05-04T10:00:00.000Z'`:  2,
		`saga_list WHERE update_time = '2026-05-04T10:00:07.000Z'`:  1,
		`saga_list WHERE end_time IS NULL`:                          3,
		`saga_list WHERE request_id = 'r-1'`:                        1,
		`saga_list WHERE due = '2026-05-04T10:00:00.999Z'`:          1,
		`saga_events WHERE time = '2026-05-04T10:00:00.001Z'`:       1,
		`saga_events WHERE store_time = '2026-05-04T09:59:59.999Z'`: 1,
		`saga_events WHERE store_time > '2026-05-04T10:00:00.000Z'`: 0,
	} {
		if n, err := queryInt(conn, "SELECT count(*) FROM "+sql); err != nil || n != want {
			t.Errorf("%s has %d rows, %v; want %d", sql, n, err, want)
		}
	}
}
