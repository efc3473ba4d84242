package journaltest_test

import (
	"testing"

	"github.com/treatyhq/treaty/orchestrator/internal/journal/journaltest"
)

func TestMemory(t *testing.T) {
	opened := make(map[string]*journaltest.Memory)
	journaltest.Exercise(t, func(_ *testing.T, dir string) journaltest.Store {
		if before := opened[dir]; before != nil {
			opened[dir] = before.Reopen()
		} else {
			opened[dir] = journaltest.NewMemory()
		}
		return opened[dir]
	})
}
