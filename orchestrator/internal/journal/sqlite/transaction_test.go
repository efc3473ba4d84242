package sqlite

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// TestRollback rolls a group back, and writes it again. The writer must drop everything that it cached the first time.
func TestRollback(t *testing.T) {
	store := openAt(t, filepath.Join(t.TempDir(), "sagas.db"))
	defer store.Close()
	await := journal.Await{Type: "Type", Subject: "subject"}
	group := []*journal.Entry{
		{Saga: "one", Turn: 1, Row: &journal.Row{
			ID: "one", Definition: "X/Y", State: treatyv1.SagaState_SAGA_STATE_RUNNING, UpdateTime: time.Unix(1, 0),
			Waiting: true, Awaits: []journal.Await{await},
		}},
		{Events: []*journal.Event{{
			Source: "source", ID: "id", Type: "Type", Subject: "subject", StoreTime: time.Unix(2, 0),
		}}},
	}
	failed := errors.New("something failed")
	err := store.writer.transaction(func() error {
		for _, entry := range group {
			if err := store.writer.write(entry); err != nil {
				t.Error(err)
			}
		}
		return failed
	})
	if !errors.Is(err, failed) {
		t.Errorf("got %v, want %v", err, failed)
	}
	delete(store.writer.sagas, "one") // as append does
	if err := store.Append(t.Context(), group); err != nil || group[0].Err != nil || group[1].Err != nil {
		t.Fatal(err, group[0].Err, group[1].Err)
	}
	if event := group[1].Events[0]; event.Position != 1 || len(group[1].Woken) != 1 {
		t.Errorf("the event has the position %d and woke %q", event.Position, group[1].Woken)
	}
	saga, err := store.Load(t.Context(), "one")
	if err != nil {
		t.Fatal(err)
	}
	row := saga.Row
	if row.Definition != "X/Y" || !slices.Equal(row.Awaits, []journal.Await{await}) || !row.Due.Equal(time.Unix(2, 0)) {
		t.Errorf("got %+v", saga)
	}
	events, err := store.Events(t.Context(), journal.EventsParams{Types: []string{"Type"}, Limit: 2})
	if err != nil || len(events) != 1 || events[0].Type != "Type" {
		t.Errorf("the events are %v, %v", events, err)
	}
	if err := store.check(t.Context()); err != nil {
		t.Error(err)
	}
}
