package orchestrator_test

import (
	"runtime/metrics"
	"testing"

	"github.com/treatyhq/treaty/orchestrator"
)

// TestHeapFloor tests that the floor is held while the server serves. Other tests of this process hold the default one,
// which is lower.
func TestHeapFloor(t *testing.T) {
	w := unopened(t, newParticipants(t))
	w.options = append(w.options, orchestrator.WithHeapFloor(1<<40))
	w.open()
	if percent := gcPercent(); percent < 10_000 {
		t.Errorf("while it serves, the percentage of the garbage collector is %d", percent)
	}
	w.stop()
	if percent := gcPercent(); percent >= 10_000 {
		t.Errorf("after it has served, the percentage of the garbage collector is %d", percent)
	}
}

func gcPercent() uint64 {
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
