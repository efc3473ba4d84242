package sqlite

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// TestLogShrinks reads one state of the store while much is written. The write-ahead log grows, since it holds what the
// reader needs, and shrinks when the reader has ended.
func TestLogShrinks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sagas.db")
	store := openAt(t, path)
	defer store.Close()
	turn := uint64(0)
	write := func() {
		t.Helper()
		turn++
		entry := &journal.Entry{Saga: "one", Turn: turn, Data: make([]byte, 4<<20)}
		if turn == 1 {
			entry.Row = &journal.Row{ID: "one", Definition: "X/Y", State: treatyv1.SagaState_SAGA_STATE_RUNNING}
		}
		if err := errors.Join(store.Append(t.Context(), []*journal.Entry{entry}), entry.Err); err != nil {
			t.Fatal(err)
		}
	}
	size := func() int64 { return store.Size().Log }
	write()
	err := store.read(t.Context(), "hold a state", func(r *reader) error {
		if _, err := queryInt(r.conn, `SELECT count(*) FROM turns`); err != nil {
			return err
		}
		for range 2 * maxIdleLog / (4 << 20) {
			write()
		}
		if got := size(); got <= maxIdleLog {
			return fmt.Errorf("the log has %d bytes while its pages are needed", got)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	write() // it is checkpointed
	write() // it begins anew
	if got := size(); got > maxIdleLog {
		t.Errorf("the log has %d bytes, want at most %d", got, maxIdleLog)
	}
}
