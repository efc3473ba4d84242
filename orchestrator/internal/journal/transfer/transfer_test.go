package transfer

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/postgrestest"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/postgres"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/sqlite"
)

var start = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

// fill writes sagas in every state, events, and whatever else a store keeps.
func fill(t *testing.T, s journal.Store) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for n := range 25 {
		id := fmt.Sprintf("s-%02d\x00\x01", n)
		row := &journal.Row{
			ID: id, Definition: fmt.Sprintf("acme.v1.Sagas/Saga%d", n%3), State: treatyv1.SagaState(1 + n%5),
			Labels: map[string]string{"customer": fmt.Sprint(n % 4), "nul": "\x00"}, RequestID: fmt.Sprintf("r-%d", n),
			CreateTime: start.Add(time.Duration(n) * time.Second),
			UpdateTime: start.Add(time.Duration(n) * time.Minute), Due: start, Revision: uint64(n),
		}
		if journal.Final(row.State) {
			row.EndTime, row.Due = row.UpdateTime, time.Time{}
		} else {
			row.Awaits = []journal.Await{{Type: "acme.v1.Moved", Subject: fmt.Sprint(n), After: 1}}
			row.Waiting = true
		}
		if row.State == treatyv1.SagaState_SAGA_STATE_SUSPENDED {
			row.Suspension = treatyv1.SuspensionReason_SUSPENSION_REASON_PANIC
		}
		switch n % 4 {
		case 1:
			row.Parent = journal.Parent{Scope: "x/0", Saga: "p", Start: start, Compensates: n%8 == 1}
		case 2:
			row.LocalParent = fmt.Sprintf("s-%02d\x00\x01", n-1)
		}
		first := &journal.Entry{Saga: id, Turn: 1, Data: []byte{byte(n)}, Time: start, Row: row}
		check(s.Append(t.Context(), []*journal.Entry{first}))
		for turn := uint64(2); turn < 5; turn++ {
			entry := &journal.Entry{Saga: id, Turn: turn, Data: []byte(fmt.Sprint(turn)), Time: start.Add(time.Hour)}
			if turn == 3 && n%6 == 0 {
				entry.NewRound, entry.Row = true, row
			}
			check(s.Append(t.Context(), []*journal.Entry{entry}))
		}
		check(s.Append(t.Context(), []*journal.Entry{{Events: []*journal.Event{{
			Source: "source", ID: fmt.Sprint(n), Type: "acme.v1.Moved", Subject: fmt.Sprint(n), Time: start,
			StoreTime: start.Add(time.Duration(n) * time.Hour), Data: []byte{1, byte(n)}, Publisher: "jwt:i#ada",
		}}}}))
	}
	_, err := s.PurgeEvents(t.Context(), start.Add(5*time.Hour), 100)
	check(err)
	_, err = s.Consumer(t.Context(), journal.Consumer{Name: "c", Position: 3, Filter: "f", Owner: "jwt:i#bob"})
	check(err)
	check(s.PutParticipant(t.Context(), journal.Participant{Service: "a.A", Proven: true, Horizon: start}))
	check(s.AddLost(t.Context(), []journal.LostSaga{{ID: "lost", FoundTime: start}}))
	_, err = s.Hear(t.Context(), journal.HeardScope{Scope: "x/0", Epoch: 7, Position: 2, StoreID: "x", Horizon: start})
	check(err)
	_, err = s.RaisePosition(t.Context(), 40)
	check(err)
	check(s.NoteRemoteChildren(t.Context(), start))
	check(s.NoteTraced(t.Context(), start))
}

// contents returns everything that a store's methods return.
func contents(t *testing.T, s journal.Reader) map[string]any {
	t.Helper()
	all := make(map[string]any)
	add := func(name string, value any, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all[name] = value
	}
	rows, err := s.List(t.Context(), journal.ListParams{Limit: 100})
	add("rows", rows, err)
	byLabel := &journal.Filter{Op: journal.Equal, Field: journal.FieldLabel, Label: "customer", Text: "2"}
	labelled, err := s.List(t.Context(), journal.ListParams{Filter: byLabel, Limit: 100})
	add("rows with a label", labelled, err)
	for _, row := range rows {
		saga, err := s.Load(t.Context(), row.ID)
		add("saga "+row.ID, saga, err)
		event, index, err := s.NextEvent(t.Context(), row.ID, []journal.Await{{Type: "acme.v1.Moved", Subject: "7"}})
		add("event of "+row.ID, []any{event, index}, err)
	}
	due, err := s.Due(t.Context(), start.Add(24*time.Hour), 100)
	add("due", due, err)
	events, err := s.Events(t.Context(), journal.EventsParams{Limit: 100})
	add("events", events, err)
	participants, err := s.Participants(t.Context())
	add("participants", participants, err)
	lost, err := s.Lost(t.Context(), journal.LostParams{Limit: 9})
	add("lost", lost, err)
	child, err := s.OldestChild(t.Context())
	add("oldest child", child, err)
	identity := s.Identity()
	add("identity", []any{identity.StoreID, identity.Name, identity.RemoteChildren, identity.Traced}, nil)
	return all
}

func TestToPostgres(t *testing.T) {
	path, url := filepath.Join(t.TempDir(), "treaty.db"), postgrestest.Database(t)
	source, err := sqlite.Open(t.Context(), path, journal.Opening{Name: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, source)
	params := Params{From: path, To: url, Name: "acme", Shards: 8}
	if err := ToPostgres(t.Context(), params); !errors.Is(err, journal.ErrLocked) {
		t.Errorf("moving an open store: got the error %v, want ErrLocked", err)
	}
	if err := source.Close(); err != nil {
		t.Fatal(err)
	}
	if source, err = sqlite.Open(t.Context(), path, journal.Opening{Name: "acme"}); err != nil {
		t.Fatal(err)
	}
	want, epoch := contents(t, source), source.Epoch()
	if err := source.Close(); err != nil {
		t.Fatal(err)
	}
	if err := ToPostgres(t.Context(), params); err != nil {
		t.Fatal(err)
	}
	moved, err := postgres.OpenReadOnly(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = moved.Close() }()
	got := contents(t, moved)
	for name := range want {
		if !reflect.DeepEqual(got[name], want[name]) {
			t.Errorf("%s: got\n%+v, want\n%+v", name, got[name], want[name])
		}
	}
	if moved.Epoch() <= epoch {
		t.Errorf("the epoch is %d, before it was %d", moved.Epoch(), epoch)
	}

	// Neither of the two can be moved again.
	if err := ToPostgres(t.Context(), params); !errors.Is(err, journal.ErrInvalid) {
		t.Errorf("moving a store again: got the error %v, want ErrInvalid", err)
	}
	other := Params{From: filepath.Join(t.TempDir(), "other.db"), To: url, Name: "acme", Shards: 8}
	if err := ToPostgres(t.Context(), other); !errors.Is(err, journal.ErrExists) {
		t.Errorf("moving into a database that isn't empty: got the error %v, want ErrExists", err)
	}
}
