//go:build proof

package proof

import (
	"flag"
	"math/rand/v2"
	"testing"
	"time"
)

var (
	kills    = flag.Int("kills", 100, "the number of kills")
	inFlight = flag.Int("inflight", 32, "the number of sagas in flight")
	seed     = flag.Uint64("seed", 0, "the seed of the random choices; 0 uses a random one")
)

// TestKills kills the orchestrator and the participants a hundred times at random while sagas run. Then it audits
// everything that is left.
func TestKills(t *testing.T) {
	chosen := *seed
	if chosen == 0 {
		chosen = rand.Uint64()
	}
	many := ordeal{kills: *kills, inFlight: *inFlight, moment: 400 * time.Millisecond, heal: longestHeal, seed: chosen}
	_, report := many.run(t)
	judge(t, report)
	// On a busy machine, too few sagas may run to see every case.
	c := report.Counts
	if *kills < 100 || c.Sagas < 300 {
		return
	}
	if c.Duplicates == 0 || c.NullCompensated == 0 || c.Cancelled == 0 {
		t.Errorf("a hundred kills caused no duplicate, no null compensation or no cancelled saga: "+
			"the ordeal tests too little: %+v", c)
	}
	if c.Children == 0 || c.Reopened == 0 || c.Scopes == 0 || c.Broadcasts == 0 || c.Restarted == 0 || c.Woken == 0 {
		t.Errorf("a hundred kills met no child saga, none that was compensated after it succeeded, no failed scope, "+
			"no broadcast, no restart or no event: the ordeal tests too little: %+v", c)
	}
}

// TestKillsThroughHostileMiddle is TestKills with a hostile middle in front of every participant.
func TestKillsThroughHostileMiddle(t *testing.T) {
	chosen := *seed
	if chosen == 0 {
		chosen = rand.Uint64()
	}
	many := ordeal{
		kills: *kills, inFlight: *inFlight, moment: 800 * time.Millisecond, heal: longestHeal, seed: chosen,
		hostile: &hostility{seed: chosen, chance: 0.02},
	}
	_, report := many.run(t)
	judge(t, report)
	if c := report.Counts; *kills >= 100 && (c.InDoubt+c.Unknown == 0 || c.NullCompensated == 0 || c.RefusedLate == 0) {
		t.Errorf("a hundred kills in a hostile environment left no doubt, no null compensation or no late action: "+
			"the ordeal tests too little: %+v", c)
	}
}

// TestRestores is TestKillsThroughHostileMiddle with an orchestrator whose store is replaced by a backup at every fifth
// kill.
func TestRestores(t *testing.T) {
	chosen := *seed
	if chosen == 0 {
		chosen = rand.Uint64()
	}
	many := ordeal{
		kills: *kills, inFlight: *inFlight, moment: 800 * time.Millisecond, heal: longestHeal, seed: chosen,
		hostile: &hostility{seed: chosen, chance: 0.02}, disaster: &disaster{every: 5},
	}
	_, report := many.run(t)
	judge(t, report)
	// Most actions that are late are of an epoch that a restore has ended, so that few are refused as late.
	if c := report.Counts; *kills >= 100 && (c.InDoubt+c.Unknown == 0 || c.NullCompensated == 0 || c.CaughtUp == 0) {
		t.Errorf("twenty restores in a hostile environment left no doubt, no null compensation or no saga that caught "+
			"up: the ordeal tests too little: %+v", c)
	}
}
