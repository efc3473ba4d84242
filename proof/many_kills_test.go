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
	_, report := ordeal{kills: *kills, inFlight: *inFlight, moment: 400 * time.Millisecond, heal: 2 * time.Minute, seed: chosen}.run(t)
	judge(t, report)
	// On a machine that is busy otherwise there are fewer sagas to hit.
	if c := report.Counts; *kills >= 100 && c.Sagas >= 500 && (c.Duplicates == 0 || c.NullCompensated == 0 || c.Cancelled == 0) {
		t.Errorf("a hundred kills without a duplicate, an undo of what never ran, or a cancelled saga: the ordeal has lost its bite: %+v", c)
	}
}
