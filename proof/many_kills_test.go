//go:build proof

package proof

import (
	"flag"
	"math/rand/v2"
	"testing"
	"time"
)

var (
	kills    = flag.Int("kills", 100, "how many processes are killed")
	inFlight = flag.Int("inflight", 32, "how many sagas are under way at once")
	seed     = flag.Uint64("seed", 0, "choose by this seed; 0 takes another one each time")
)

// TestKills kills the orchestrator and the participants at random, a hundred times, while sagas run, and holds everything that they
// left against Treaty's promises.
func TestKills(t *testing.T) {
	chosen := *seed
	if chosen == 0 {
		chosen = rand.Uint64()
	}
	_, report := ordeal{kills: *kills, inFlight: *inFlight, moment: 400 * time.Millisecond, heal: longestHeal, seed: chosen}.run(t)
	judge(t, report)
	// On a machine that is busy otherwise there are fewer sagas to hit.
	c := report.Counts
	if *kills >= 100 && c.Sagas >= 300 && (c.Duplicates == 0 || c.NullCompensated == 0 || c.Cancelled == 0) {
		t.Errorf("a hundred kills without a duplicate, an undo of what never ran, or a cancelled saga: the ordeal has lost its bite: %+v", c)
	}
	if *kills >= 100 && c.Sagas >= 300 && (c.Children == 0 || c.Reopened == 0 || c.Scopes == 0 || c.Broadcasts == 0 || c.Restarted == 0 || c.Woken == 0) {
		t.Errorf("a hundred kills without a child, one that was undone after it succeeded, a scope that failed, a broadcast, a second round, "+
			"or an event that was awaited: the ordeal has lost its bite: %+v", c)
	}
}
