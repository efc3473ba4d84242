package proof

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/treatyhq/treaty/services/demo/audit"
	"github.com/treatyhq/treaty/services/demo/company"
)

// disaster replaces the orchestrator's store by backups while sagas run. A nil disaster does nothing.
type disaster struct {
	every int // the number of kills from one replacement to the next

	kills  int
	backup string    // the file of the last backup
	began  time.Time // when that backup began

	mu       sync.Mutex
	restores []audit.Restore
}

// strike is called before each kill. It backs the store up, and replaces it by that backup some kills later.
func (d *disaster) strike(t *testing.T, acme *company.Company) {
	t.Helper()
	if d == nil {
		return
	}
	d.kills++
	switch d.kills % d.every {
	case 1:
		d.began = time.Now()
		d.backup = filepath.Join(acme.Dir, fmt.Sprintf("backup-%d.db", d.kills))
		if err := acme.Backup(t.Context(), d.backup); err != nil {
			t.Fatal(err)
		}
	case 0:
		if err := acme.Restore(t.Context(), d.backup); err != nil {
			t.Fatal(err)
		}
		if err := acme.RepublishDecisions(t.Context()); err != nil {
			t.Fatal(err)
		}
		// The next backup is of a store that has caught up.
		if err := acme.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		d.mu.Lock()
		d.restores = append(d.restores, audit.Restore{Backup: d.began, Done: time.Now()})
		d.mu.Unlock()
	}
}

// since returns the replacements after the first n.
func (d *disaster) since(n int) []audit.Restore {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.restores[n:]
}

// TestRestoresBriefly replaces the orchestrator's store by a backup a few times, while processes are killed.
// TestRestores, with the build tag proof, does it many times, through a hostile middle.
func TestRestoresBriefly(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds and runs six programs")
	}
	brief := ordeal{
		kills: 12, inFlight: 16, moment: 600 * time.Millisecond, heal: longestHeal, goOnly: true, seed: 3,
		disaster: &disaster{every: 4},
	}
	_, report := brief.run(t)
	judge(t, report)
}
