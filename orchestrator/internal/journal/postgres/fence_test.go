package postgres

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/postgrestest"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// startOf returns the entry that creates a saga.
func startOf(id string) *journal.Entry {
	now := time.Now()
	return &journal.Entry{Saga: id, Turn: 1, Data: []byte("data"), Row: &journal.Row{
		ID: id, Definition: "acme.card.v1.CardSagas/IssueCard", State: treatyv1.SagaState_SAGA_STATE_RUNNING,
		CreateTime: now, UpdateTime: now,
	}}
}

// eventOf returns an entry that publishes an event.
func eventOf(id string) *journal.Entry {
	return &journal.Entry{Events: []*journal.Event{{
		Source: "source", ID: id, Type: "acme.identity.v1.Verified", Subject: "c-1", StoreTime: time.Now(),
	}}}
}

// twoShards returns two shards of one member, in a new database.
func twoShards(t *testing.T) (one, two *Shard) {
	t.Helper()
	one = openShard(t, postgrestest.Database(t), 0)
	t.Cleanup(func() { _ = one.Close() })
	two, err := one.Shard(t.Context(), takeShard(t, one.Database, one.owned.Member, 1))
	if err != nil {
		t.Fatal(err)
	}
	return one, two
}

// TestFencedShard merges the Appends of two shards into one transaction, after one of them was taken by another member.
// Only its entries fail.
func TestFencedShard(t *testing.T) {
	one, two := twoShards(t)
	execute(t, one.Database, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE shards SET owner = 'other', epoch = epoch + 1 WHERE shard = 1`)
		return err
	})
	for i, group := range [][2]*journal.Entry{{startOf("a"), startOf("b")}, {eventOf("a"), eventOf("b")}} {
		w := one.committer.idle[0]
		b := newBatch(w, []*appending{
			{shard: one, group: group[:1], eventful: i == 1}, {shard: two, group: group[1:], eventful: i == 1},
		})
		if err := b.commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		if b.fenced[one.owned] || !b.fenced[two.owned] {
			t.Errorf("fenced are %v", b.fenced)
		}
	}
	if _, err := one.Load(t.Context(), "a"); err != nil {
		t.Errorf("the saga of the shard that is owned: %v", err)
	}
	if _, err := one.Get(t.Context(), "b"); !errors.Is(err, journal.ErrNotFound) {
		t.Errorf("the saga of the shard that was taken: %v", err)
	}
	if events, err := one.Events(t.Context(), journal.EventsParams{Limit: 9}); err != nil || len(events) != 1 {
		t.Errorf("%d events were published, %v; want 1", len(events), err)
	}
	for name, err := range map[string]error{
		"append":       two.Append(t.Context(), []*journal.Entry{startOf("c")}),
		"mark":         two.MarkReplaced(t.Context(), "cause", 1),
		"end restore":  two.EndRestore(t.Context()),
		"raise":        second(two.RaisePosition(t.Context(), 1)),
		"open a shard": second(one.Shard(t.Context(), two.owned)),
	} {
		if !errors.Is(err, journal.ErrFenced) {
			t.Errorf("%s: got the error %v, want ErrFenced", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// TestTakeoverWaitsForCommit takes a shard while a transaction of its owner is under way. The takeover waits for it.
func TestTakeoverWaitsForCommit(t *testing.T) {
	one, _ := twoShards(t)
	held, release := hold(one)
	appended := make(chan error, 1)
	go func() { appended <- one.Append(t.Context(), []*journal.Entry{eventOf("a")}) }()
	<-held
	taken := make(chan struct{})
	go func() {
		defer close(taken)
		takeShard(t, one.Database, "other", 0)
	}()
	if !blocked(t, one, taken) {
		t.Error("the takeover didn't wait for the transaction of the owner before")
	}
	release()
	if err := <-appended; err != nil {
		t.Errorf("the transaction that was under way: %v", err)
	}
	<-taken
	if err := one.Append(t.Context(), []*journal.Entry{startOf("b")}); !errors.Is(err, journal.ErrFenced) {
		t.Errorf("the next transaction: got the error %v, want ErrFenced", err)
	}
}

// TestCommitWaitsForTakeover writes while a takeover is under way. The transaction waits for it, and then fails.
func TestCommitWaitsForTakeover(t *testing.T) {
	one, _ := twoShards(t)
	tx, err := one.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `UPDATE fences SET fenced = true`); err != nil {
		t.Fatal(err)
	}
	done, appended := make(chan struct{}), error(nil)
	go func() {
		defer close(done)
		appended = one.Append(t.Context(), []*journal.Entry{startOf("a")})
	}()
	if !blocked(t, one, done) {
		t.Error("the transaction didn't wait for the takeover")
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-done
	if !errors.Is(appended, journal.ErrFenced) {
		t.Errorf("got the error %v, want ErrFenced", appended)
	}
	if _, err := one.Get(t.Context(), "a"); !errors.Is(err, journal.ErrNotFound) {
		t.Errorf("the saga was written: %v", err)
	}
}

// TestElsewhere uses a saga of another shard.
func TestElsewhere(t *testing.T) {
	one, two := twoShards(t)
	if err := one.Append(t.Context(), []*journal.Entry{startOf("a")}); err != nil {
		t.Fatal(err)
	}
	_, err := two.Load(t.Context(), "a")
	var elsewhere *journal.ElsewhereError
	if !errors.Is(err, journal.ErrElsewhere) || !errors.As(err, &elsewhere) || elsewhere.Shard != 0 {
		t.Errorf("load: got the error %v, want ErrElsewhere", err)
	}
	start, turn := startOf("a"), &journal.Entry{Saga: "a", Turn: 2}
	if err := two.Append(t.Context(), []*journal.Entry{start}); err != nil || !errors.Is(start.Err, journal.ErrExists) {
		t.Errorf("start: got the errors %v, %v, want ErrExists", err, start.Err)
	}
	if err := two.Append(t.Context(), []*journal.Entry{turn}); err != nil || !errors.Is(turn.Err, journal.ErrConflict) {
		t.Errorf("turn: got the errors %v, %v, want ErrConflict", err, turn.Err)
	}
	if row, err := two.Get(t.Context(), "a"); err != nil || row.Shard != 0 {
		t.Errorf("get: %+v, %v", row, err)
	}
	if open, err := two.Open(t.Context(), journal.OpenParams{Limit: 9}); err != nil || len(open) != 0 {
		t.Errorf("shard 1 has %d open sagas, %v", len(open), err)
	}
}
