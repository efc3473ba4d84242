package sqlite

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/treatyhq/treaty/orchestrator/journal"
)

// TestPlans holds the queries that must not slow down with the number of finished sagas to the indexes that see to it.
func TestPlans(t *testing.T) {
	store := openAt(t, filepath.Join(t.TempDir(), "sagas.db"))
	defer store.Close()
	state := func(op journal.FilterOp, name string) *journal.Filter {
		return &journal.Filter{Op: op, Field: journal.FieldState, Text: name}
	}
	label := &journal.Filter{Op: journal.Equal, Field: journal.FieldLabel, Label: "customer", Text: "c-1"}
	list := func(by journal.OrderField, filter *journal.Filter) string {
		sql, _ := listQuery(journal.ListParams{
			Filter: filter, Order: journal.Order{By: by, Descending: true}, After: &journal.Row{ID: "s"}, Limit: 10,
		})
		return sql
	}
	for _, test := range []struct {
		name, sql string
		want      []string // each is in the plan
	}{
		{"open", openQuery, []string{"sagas_unended (state=? AND id>?)"}},
		{"due", dueQuery, []string{"sagas_due (due>? AND due<?)"}},
		{"by create time", list(journal.OrderByCreateTime, nil), []string{"sagas_by_create_time (create_time<?)"}},
		{"by update time", list(journal.OrderByUpdateTime, nil), []string{"sagas_by_update_time (update_time<?)", "sagas_unended (state<?)"}},
		{"running", list(journal.OrderByCreateTime, state(journal.Equal, "RUNNING")), []string{"sagas_unended (state=?)"}},
		{"suspended", list(journal.OrderByCreateTime, state(journal.Equal, "SUSPENDED")), []string{"sagas_unended (state=?)"}},
		{"compensated", list(journal.OrderByCreateTime, state(journal.Equal, "COMPENSATED")), []string{"sagas_compensated (state=? AND create_time<?)"}},
		{"label", list(journal.OrderByCreateTime, label), []string{"INTEGER PRIMARY KEY (rowid=?)", "PRIMARY KEY (label=? AND value=?)"}},
		{"label and state", list(journal.OrderByCreateTime, &journal.Filter{Op: journal.And, Args: []*journal.Filter{state(journal.Equal, "SUCCEEDED"), label}}), []string{"INTEGER PRIMARY KEY (rowid=?)"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			stmt, _, err := store.writer.conn.Prepare("EXPLAIN QUERY PLAN " + test.sql)
			if err != nil {
				t.Fatal(err)
			}
			defer stmt.Close()
			var plan strings.Builder
			for stmt.Step() {
				plan.WriteString(stmt.ColumnText(3) + "\n")
			}
			for _, want := range test.want {
				if !strings.Contains(plan.String(), want) {
					t.Errorf("the plan has no %q:\n%s\n%s", want, plan.String(), test.sql)
				}
			}
		})
	}
}
