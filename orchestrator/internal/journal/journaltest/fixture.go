package journaltest

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// fixture is a test with its store.
type fixture struct {
	*testing.T
	Store

	opener func(t *testing.T, dir string) Store
	dir    string
}

func (f *fixture) reopen() {
	f.T.Helper()
	if err := f.Close(); err != nil {
		f.Fatalf("close: %v", err)
	}
	f.Store = f.opener(f.T, f.dir)
}

// write appends a group and checks that every entry was written.
func (f *fixture) write(group ...*journal.Entry) {
	f.T.Helper()
	f.append(group...)
	for _, entry := range group {
		if entry.Err != nil {
			f.Fatalf("turn %d of saga %q: %v", entry.Turn, entry.Saga, entry.Err)
		}
	}
}

// append appends a group.
func (f *fixture) append(group ...*journal.Entry) {
	f.T.Helper()
	if err := f.Append(f.Context(), group); err != nil {
		f.Fatalf("append: %v", err)
	}
}

// holds checks that a saga is stored as expected.
func (f *fixture) holds(want *journal.Journal) {
	f.T.Helper()
	got, err := f.Load(f.Context(), want.Row.ID)
	if err != nil {
		f.Fatalf("load: %v", err)
	}
	f.sameJournal(got, want)
}

func (f *fixture) sameJournal(got, want *journal.Journal) {
	f.T.Helper()
	f.sameRow(&got.Row, &want.Row)
	f.sameTurns(got.Turns, want.Turns)
}

func (f *fixture) sameTurns(got, want []journal.Turn) {
	f.T.Helper()
	if len(got) != len(want) {
		f.Errorf("got %d turns, want %d", len(got), len(want))
		return
	}
	for i := range got {
		if got[i].Number != want[i].Number || string(got[i].Data) != string(want[i].Data) {
			f.Errorf("turn %d: got number %d with %s, want number %d with %s",
				i, got[i].Number, short(got[i].Data), want[i].Number, short(want[i].Data))
		}
	}
}

func (f *fixture) sameRow(got, want *journal.Row) {
	f.T.Helper()
	if got, want := stored(got), stored(want); !reflect.DeepEqual(got, want) {
		f.Errorf("got row\n%+v, want\n%+v", got, want)
	}
	for _, at := range []time.Time{got.CreateTime, got.UpdateTime, got.EndTime, got.Due} {
		if at.Location() != time.UTC {
			f.Errorf("saga %q has the time %v, which isn't in UTC", got.ID, at)
		}
	}
}

func (f *fixture) sameIDs(what string, got []*journal.Row, want ...string) {
	f.T.Helper()
	if ids := idsOf(got); fmt.Sprintf("%q", ids) != fmt.Sprintf("%q", want) {
		f.Errorf("%s: got %q, want %q", what, ids, want)
	}
}

func (f *fixture) failsWith(what string, err, want error) {
	f.T.Helper()
	if !errors.Is(err, want) {
		f.Errorf("%s: got the error %v, want %v", what, err, want)
	}
}

func (f *fixture) list(params journal.ListParams) []*journal.Row {
	f.T.Helper()
	rows, err := f.List(f.Context(), params)
	if err != nil {
		f.Fatalf("list: %v", err)
	}
	return rows
}

// stored returns a row as a store returns it after writing it.
func stored(row *journal.Row) *journal.Row {
	copied := cloneRow(row)
	if len(copied.Labels) == 0 {
		copied.Labels = nil
	}
	copied.CreateTime, copied.UpdateTime = micro(row.CreateTime), micro(row.UpdateTime)
	copied.EndTime, copied.Due = micro(row.EndTime), micro(row.Due)
	return copied
}

func idsOf(rows []*journal.Row) []string {
	ids := []string{}
	for _, row := range rows {
		ids = append(ids, row.ID)
	}
	return ids
}

func short(data []byte) string {
	if len(data) > 40 {
		return fmt.Sprintf("%d bytes %q...", len(data), data[:40])
	}
	return fmt.Sprintf("%q", data)
}

const (
	running      = treatyv1.SagaState_SAGA_STATE_RUNNING
	compensating = treatyv1.SagaState_SAGA_STATE_COMPENSATING
	suspended    = treatyv1.SagaState_SAGA_STATE_SUSPENDED
	succeeded    = treatyv1.SagaState_SAGA_STATE_SUCCEEDED
	compensated  = treatyv1.SagaState_SAGA_STATE_COMPENSATED
)

var states = []treatyv1.SagaState{running, compensating, suspended, succeeded, compensated}

// reasons are reasons to be suspended, and none.
var reasons = []treatyv1.SuspensionReason{
	treatyv1.SuspensionReason_SUSPENSION_REASON_PANIC, treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED,
	treatyv1.SuspensionReason_SUSPENSION_REASON_UNSPECIFIED,
}

// minute returns the time n minutes after an arbitrary one.
func minute(n int) time.Time {
	return time.Date(2026, time.January, 31, 12, n, 0, 0, time.UTC)
}

// row returns the row of a saga that was created at a minute.
func row(id string, at int) *journal.Row {
	return &journal.Row{
		ID: id, Definition: "acme.card.v1.CardSagas/IssueCard", State: running,
		CreateTime: minute(at), UpdateTime: minute(at),
	}
}

// first returns the entry that creates a saga.
func first(row *journal.Row) *journal.Entry {
	return &journal.Entry{Saga: row.ID, Turn: 1, Data: data(row.ID, 1), Row: row}
}

// next returns the entry of a later turn. row may be nil.
func next(id string, turn uint64, row *journal.Row) *journal.Entry {
	return &journal.Entry{Saga: id, Turn: turn, Data: data(id, turn), Row: row}
}

func data(id string, turn uint64) []byte {
	return fmt.Appendf(nil, "turn %d of %s", turn, id)
}

// journalOf returns a saga with a number of turns.
func journalOf(row *journal.Row, turns uint64) *journal.Journal {
	want := &journal.Journal{Row: *row}
	for n := uint64(1); n <= turns; n++ {
		want.Turns = append(want.Turns, journal.Turn{Number: n, Data: data(row.ID, n)})
	}
	return want
}
