package sqlite

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// TestPlans checks that queries which must not slow down with the number of ended sagas use the right indexes. It binds
// the limit of a page, since SQLite's plan depends on it.
func TestPlans(t *testing.T) {
	store := openAt(t, filepath.Join(t.TempDir(), "sagas.db"))
	defer store.Close()
	state := func(op journal.FilterOp, name string) *journal.Filter {
		return &journal.Filter{Op: op, Field: journal.FieldState, Text: name}
	}
	compare := func(op journal.FilterOp, field journal.FilterField, text string) *journal.Filter {
		return &journal.Filter{Op: op, Field: field, Label: "customer", Text: text}
	}
	and := func(args ...*journal.Filter) *journal.Filter { return &journal.Filter{Op: journal.And, Args: args} }
	succeeded, label := state(journal.Equal, "SUCCEEDED"), compare(journal.Equal, journal.FieldLabel, "c-1")
	definition := compare(journal.Equal, journal.FieldDefinition, "X/Y")
	ids := &journal.Filter{Op: journal.Or} // those that a request id may have led to
	for i := range 9 {
		ids.Args = append(ids.Args, compare(journal.Equal, journal.FieldID, fmt.Sprint(i)))
	}
	const byCreateTime, byUpdateTime = "sagas_by_create_time", "sagas_by_update_time"
	const compensated = "sagas_compensated (state=?"
	for _, test := range []struct {
		name   string
		filter *journal.Filter
		create string // in the plan of the order by creation time
		update string // in the plan of the order by update time
	}{
		{"all", nil, byCreateTime, byUpdateTime},
		{"running", state(journal.Equal, "RUNNING"), "sagas_unended (state=?)", "sagas_unended (state=?)"},
		{"suspended", state(journal.Equal, "SUSPENDED"), "sagas_unended (state=?)", "sagas_unended (state=?)"},
		{
			"suspended for a reason", compare(journal.Equal, journal.FieldSuspension, "RESTORED"),
			"sagas_unended (state=?)", "sagas_unended (state=?)",
		},
		{"other reason", compare(journal.NotEqual, journal.FieldSuspension, "RESTORED"), byCreateTime, byUpdateTime},
		{"compensated", state(journal.Equal, "COMPENSATED"), compensated, compensated},
		{"succeeded", succeeded, byCreateTime, byUpdateTime},
		{"not succeeded", state(journal.NotEqual, "SUCCEEDED"), byCreateTime, byUpdateTime},
		{"not running", state(journal.NotEqual, "RUNNING"), byCreateTime, byUpdateTime},
		{"definition", definition, byCreateTime, byUpdateTime},
		{"definition and state", and(definition, succeeded), byCreateTime, byUpdateTime},
		{"id", compare(journal.Equal, journal.FieldID, "s"), "autoindex_sagas_1 (id=?)", "autoindex_sagas_1 (id=?)"},
		{"request id", ids, "autoindex_sagas_1 (id=?)", "autoindex_sagas_1 (id=?)"},
		{"ids from", compare(journal.GreaterOrEqual, journal.FieldID, "s"), byCreateTime, byUpdateTime},
		{"created from", compare(journal.GreaterOrEqual, journal.FieldCreateTime, ""), byCreateTime, byUpdateTime},
		{"changed from", compare(journal.GreaterOrEqual, journal.FieldUpdateTime, ""), byCreateTime, byUpdateTime},
		{"label", label, "PRIMARY KEY (label=? AND value=?)", "PRIMARY KEY (label=? AND value=?)"},
		{"label and state", and(succeeded, label), "INTEGER PRIMARY KEY (rowid=?)", "INTEGER PRIMARY KEY (rowid=?)"},
		{"other label", compare(journal.NotEqual, journal.FieldLabel, "c-1"), byCreateTime, byUpdateTime},
	} {
		for by, want := range map[journal.OrderField]string{
			journal.OrderByCreateTime: test.create, journal.OrderByUpdateTime: test.update,
		} {
			for _, after := range []*journal.Row{nil, {ID: "s"}} {
				for _, descending := range []bool{false, true} {
					sql, args := listQuery(journal.ListParams{
						Filter: test.filter, Order: journal.Order{By: by, Descending: descending},
						After: after, Limit: 50,
					})
					store.planned(t, test.name, want, sql, args)
				}
			}
		}
	}
	for name, test := range map[string]struct {
		params journal.ChildrenParams
		want   string
	}{
		"of all":  {journal.ChildrenParams{Since: time.Unix(1, 0)}, "sagas_by_parent (parent>?)"},
		"of one":  {journal.ChildrenParams{Parent: "p"}, "sagas_by_parent (parent=?)"},
		"further": {journal.ChildrenParams{Parent: "p", After: &journal.Row{ID: "s"}}, "sagas_by_parent (parent=?"},
	} {
		test.params.Scope, test.params.Limit = "x/0", 50
		sql, args := childrenQuery(test.params)
		store.planned(t, "children "+name, test.want, sql, args)
	}
	store.planned(t, "oldest child", "sagas_by_parent_start (parent_scope=? AND parent_start>?)", oldestChildQuery, nil)
	store.planned(t, "due", "sagas_due (due>? AND due<?)", dueQuery, []any{int64(1), int64(50)})
	for which, sql := range openQueries {
		const want = "sagas_unended (state=? AND waiting=? AND id>?)"
		store.planned(t, fmt.Sprintf("open %d", which), want, sql, []any{"s", int64(50)})
	}
}

// TestEventPlans checks the same for events, and for sagas that wait or have ended.
func TestEventPlans(t *testing.T) {
	store := openAt(t, filepath.Join(t.TempDir(), "sagas.db"))
	defer store.Close()
	one := int64(1)
	const allEvents = "SEARCH e USING INTEGER PRIMARY KEY (rowid>?)"
	const eventsOfKey = "events_by_key (subject=? AND type=? AND rowid>?)"
	const ended, ofParent = "sagas_ended (definition=? AND end_time<?)", "sagas_by_undoer (undoer=?)"
	store.planned(t, "purge", ended, endedQuery, []any{"X/Y", one, one, ""})
	store.planned(t, "purge families", ofParent, endedQuery, []any{"X/Y", one, one, ""})
	store.planned(t, "purge apart", "sagas_ended_apart (definition=? AND end_time<?)", endedApartQuery,
		[]any{"X/Y", one, one, ""})
	store.planned(t, "purge one", "autoindex_sagas_1 (id=?)", endedSagaQuery, []any{"s", ""})
	store.planned(t, "purge a family", ofParent, familyQuery, []any{"s"})
	store.planned(t, "wake", "awaits_by_key (subject=? AND type=? AND after<?)", wakeQuery, []any{"s", one, one, one})
	store.planned(t, "has await", "awaits_by_key (subject=? AND type=?)", hasAwaitQuery, []any{"s", one})
	store.planned(t, "has event", eventsOfKey, hasEventQuery, []any{"s", one, one})
	store.planned(t, "next event", eventsOfKey, nextEventQuery, []any{"s", "T", one, one})
	for name, test := range map[string]struct {
		params journal.EventsParams
		want   string
	}{
		"all":                 {journal.EventsParams{}, allEvents},
		"a type":              {journal.EventsParams{Types: []string{"T"}}, "events_by_type (type=? AND rowid>?)"},
		"types":               {journal.EventsParams{Types: []string{"T", "U"}}, "events_by_type (type=? AND rowid>?)"},
		"many types":          {journal.EventsParams{}, allEvents},
		"a subject":           {journal.EventsParams{Subject: "s"}, "events_by_key (subject=?)"},
		"a subject and types": {journal.EventsParams{Subject: "s", Types: []string{"T", "U"}}, eventsOfKey},
	} {
		params := test.params
		if name == "many types" {
			for i := range maxMerged + 1 {
				params.Types = append(params.Types, fmt.Sprint(i))
			}
		}
		params.After, params.Limit = 7, 50
		sql, args := eventsQuery(params)
		store.planned(t, name, test.want, sql, args)
	}
}

// planned checks that a plan contains a text, and that it doesn't scan all sagas or events.
func (s *Store) planned(t *testing.T, name, want, sql string, args []any) {
	t.Helper()
	r := &reader{conn: s.writer.conn, stmts: make(map[string]*sqlite3.Stmt)}
	var plan strings.Builder
	if err := r.query("EXPLAIN QUERY PLAN "+sql, args, func(stmt *sqlite3.Stmt) error {
		plan.WriteString(stmt.ColumnText(3) + "\n")
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	scans := regexp.MustCompile(`SCAN (s|e|sagas)\n`).MatchString(plan.String())
	if !strings.Contains(plan.String(), want) || scans {
		t.Errorf("%s: the plan should have %q and no scan:\n%s\n%s", name, want, plan.String(), sql)
	}
}

// TestSingleRows tests that the statements of every saga insert single rows by their values. SQLite copies each page
// that another statement changes, so that it can undo the first rows if a later one fails.
func TestSingleRows(t *testing.T) {
	store := openAt(t, filepath.Join(t.TempDir(), "sagas.db"))
	defer store.Close()
	w := store.writer
	for _, stmt := range []*sqlite3.Stmt{w.insertSaga, w.insertTurn, w.updateSaga, w.insertLabel} {
		explain, _, err := w.conn.Prepare("EXPLAIN " + stmt.SQL())
		if err != nil {
			t.Fatal(err)
		}
		for explain.Step() {
			if opcode := explain.ColumnText(1); opcode == "InitCoroutine" || opcode == "Program" {
				t.Errorf("%s\nhas the operation %s", stmt.SQL(), opcode)
			}
		}
		if err := errors.Join(explain.Err(), explain.Close()); err != nil {
			t.Fatal(err)
		}
	}
}
