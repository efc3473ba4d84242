package inbox_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/treatyhq/treaty/participant"
	"github.com/treatyhq/treaty/participant/inbox"
)

// TestRetention sends so many commands to an inbox with a retention that it purges on its own. The old row is deleted
// and the others stay.
func TestRetention(t *testing.T) { each(t, retention) }

func retention(t *testing.T, b backend) {
	t.Helper()
	s := b.openWith(t, b.place(t), inbox.Options{Retention: time.Hour})
	const commands = 1001
	for n := range commands {
		if _, err := s.call(t.Context(), fmt.Sprintf("sagas/s%d/steps/1", n),
			call{direction: participant.Action}); err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			if _, err := s.db.ExecContext(t.Context(), `UPDATE treaty_inbox SET executed_at = 1000`); err != nil {
				t.Fatal(err)
			}
		}
	}
	var left int
	if err := s.db.QueryRowContext(t.Context(), `SELECT count(*) FROM treaty_inbox`).Scan(&left); err != nil ||
		left != commands-1 {
		t.Errorf("%d rows are left, %v; want %d: the one older than the retention gone", left, err, commands-1)
	}
}
