package journaltest

import "github.com/treatyhq/treaty/orchestrator/internal/journal"

// driven returns whether Open selects a saga with journal.Driven.
func driven(row *journal.Row) bool {
	return !row.Waiting && (row.State == running || row.State == compensating)
}
