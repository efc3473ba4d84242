package sqlite

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// TestRollback undoes a group, and writes it again. Whatever the writer remembered of the first try is forgotten, names among it.
func TestRollback(t *testing.T) {
	store := openAt(t, filepath.Join(t.TempDir(), "sagas.db"))
	defer store.Close()
	await := journal.Await{Type: "Type", Subject: "subject"}
	group := []*journal.Entry{
		{Saga: "one", Turn: 1, Row: &journal.Row{
			ID: "one", Definition: "X/Y", State: treatyv1.SagaState_SAGA_STATE_RUNNING, UpdateTime: time.Unix(1, 0), Waiting: true, Awaits: []journal.Await{await},
		}},
		{Events: []*journal.Event{{Source: "source", ID: "id", Type: "Type", Subject: "subject", StoreTime: time.Unix(2, 0)}}},
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
		t.Errorf("the event is at %d, woken are %q", event.Position, group[1].Woken)
	}
	saga, err := store.Load(t.Context(), "one")
	if err != nil || saga.Row.Definition != "X/Y" || len(saga.Row.Awaits) != 1 || saga.Row.Awaits[0] != await || !saga.Row.Due.Equal(time.Unix(2, 0)) {
		t.Errorf("got %+v, %v", saga, err)
	}
	events, err := store.Events(t.Context(), journal.EventsParams{Types: []string{"Type"}, Limit: 2})
	if err != nil || len(events) != 1 || events[0].Type != "Type" {
		t.Errorf("the events are %v, %v", events, err)
	}
	if err := store.Check(t.Context()); err != nil {
		t.Error(err)
	}
}
