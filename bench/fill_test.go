package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ncruces/go-sqlite3"
	"google.golang.org/protobuf/testing/protocmp"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// TestFill compares the sagas of a filled store with the one that an orchestrator has run, as the tables have them and
// as an orchestrator reads them, and runs more sagas on that store.
func TestFill(t *testing.T) {
	const sagas = 1000
	o := options{
		Steps: 3, InFlight: 4, Payload: 32, Rounds: 1, Conns: 1, Round: 300 * time.Millisecond, Fill: sagas,
		FillStore: filepath.Join(t.TempDir(), "kept.db"),
	}
	m, err := newMeasurement(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer m.end()
	path, err := m.filledStore(o, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	ids := compareTables(t, path, sagas)

	s, err := m.startTreatyOn(&side{name: "filled store", store: path}, o)
	if err != nil {
		t.Fatal(err)
	}
	client, closeConn, err := dialSagas(s.server.address)
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn()
	compareSagas(t, client, ids)
	if err := m.run(o, t.Output(), s); err != nil {
		t.Fatal(err)
	}
	if done := s.rounds[0]; done.Sagas == 0 {
		t.Error("no saga has ended")
	}
	if _, err := s.bytes(1); err != nil {
		t.Fatal(err)
	}
	if got := query(t, path, `PRAGMA integrity_check`); !slices.Equal(got, []string{"ok"}) {
		t.Errorf("the store is %q", got)
	}
	reuseKept(t, o)
}

// compareTables compares each filled saga with the first one. It returns the first id, and the oldest and the newest of
// the others.
func compareTables(t *testing.T, path string, sagas int) []string {
	t.Helper()
	// Turns are data, and everything that says which saga's they are must differ.
	for table, differs := range map[string][]string{
		"sagas": {"key", "id", "create_time", "update_time", "end_time"},
		"turns": {"position", "checksum", "time"},
	} {
		columns := query(t, path, `SELECT name FROM pragma_table_info('`+table+`')`)
		columns = slices.DeleteFunc(columns, func(name string) bool { return slices.Contains(differs, name) })
		each := fmt.Sprintf(`SELECT count(*) FROM %s GROUP BY %s`, table, strings.Join(columns, ", "))
		counts := query(t, path, each)
		for _, count := range counts {
			if count != fmt.Sprint(sagas) {
				t.Errorf("%s: rows that differ in %q only: %q, want %d of each", table, differs, counts, sagas)
				break
			}
		}
		if table == "turns" && len(counts) != 4 {
			t.Errorf("a saga has %d turns, want 4", len(counts))
		}
	}
	for what, sql := range map[string]string{
		"ids are ordered by time": `SELECT count(*) FROM sagas a JOIN sagas b
			ON a.id < b.id AND a.create_time >= b.create_time WHERE a.key = 2 OR b.key = 1`,
		"a saga ends after its start": `SELECT count(*) FROM sagas WHERE end_time < create_time OR end_time IS NULL`,
		"turns belong to sagas":       `SELECT count(*) FROM turns WHERE position >> 24 NOT IN (SELECT key FROM sagas)`,
		"a turn is no older than its saga": `SELECT count(*) FROM turns JOIN sagas ON key = position >> 24
			WHERE time < create_time OR time > end_time`,
		"a saga has all turns": `SELECT count(*) FROM (SELECT max(position & 0xffffff) AS last FROM turns
			GROUP BY position >> 24) WHERE last != 4`,
	} {
		if got := query(t, path, sql); got[0] != "0" {
			t.Errorf("%s, but for %s", what, got[0])
		}
	}
	return query(t, path, fmt.Sprintf(`SELECT id FROM sagas WHERE key IN (1, 2, %d) ORDER BY key`, sagas))
}

// compareSagas compares what an orchestrator reads, which checks that turns are whole and in their place.
func compareSagas(t *testing.T, client treatyv1.SagaServiceClient, ids []string) {
	t.Helper()
	var sagas []*treatyv1.Saga
	var records []*treatyv1.ListSagaRecordsResponse
	for _, id := range ids {
		saga, err := client.GetSaga(t.Context(), &treatyv1.GetSagaRequest{Name: "sagas/" + id})
		if err != nil {
			t.Fatal(err)
		}
		page, err := client.ListSagaRecords(t.Context(), &treatyv1.ListSagaRecordsRequest{Parent: "sagas/" + id})
		if err != nil {
			t.Fatal(err)
		}
		sagas, records = append(sagas, saga), append(records, page)
	}
	options := []cmp.Option{
		protocmp.Transform(), protocmp.IgnoreFields(&treatyv1.Step{}, "name"),
		protocmp.IgnoreFields(&treatyv1.Saga{}, "name", "etag", "create_time", "update_time", "end_time"),
		protocmp.IgnoreFields(&treatyv1.SagaRecord{}, "name"),
	}
	for i := range ids {
		if diff := cmp.Diff(sagas[0], sagas[i], options...); diff != "" {
			t.Errorf("saga %s (-real +filled):\n%s", ids[i], diff)
		}
		if diff := cmp.Diff(records[0], records[i], options...); diff != "" {
			t.Errorf("records of saga %s (-real +filled):\n%s", ids[i], diff)
		}
	}
	if len(records[0].GetRecords()) == 0 {
		t.Error("the sagas have no records")
	}
}

// reuseKept uses the kept copy, which nothing has changed since it was filled, and refuses it if it is too small.
func reuseKept(t *testing.T, o options) {
	t.Helper()
	m, err := newMeasurement(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer m.end()
	path, err := m.filledStore(o, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := query(t, path, `SELECT count(*) FROM sagas`), fmt.Sprint(o.Fill); got[0] != want {
		t.Errorf("the copy has %s sagas, want %s", got[0], want)
	}
	o.Fill++
	if _, err := m.filledStore(o, t.Output()); err == nil || !strings.Contains(err.Error(), "fewer than --fill 1001") {
		t.Errorf("with one more: %v", err)
	}
}

// query returns the first column of all rows.
func query(t *testing.T, path, sql string) []string {
	t.Helper()
	conn, err := sqlite3.OpenContext(context.WithoutCancel(t.Context()), "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stmt, _, err := conn.Prepare(sql)
	if err != nil {
		t.Fatal(err)
	}
	defer stmt.Close()
	var column []string
	for stmt.Step() {
		column = append(column, stmt.ColumnText(0))
	}
	if err := stmt.Err(); err != nil {
		t.Fatal(err)
	}
	return column
}
