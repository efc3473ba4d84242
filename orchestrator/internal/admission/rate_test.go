package admission_test

import (
	"testing"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/admission"
)

func TestRateOverTime(t *testing.T) {
	start := time.Unix(1_000_000_000, 0)
	rate := admission.NewRate(2, 3)
	var taken []time.Duration
	for at := time.Duration(0); at < 4*time.Second; at += 100 * time.Millisecond {
		for rate.Wait(start.Add(at)) == 0 {
			rate.Take(start.Add(at))
			taken = append(taken, at)
		}
	}
	want := []time.Duration{0, 0, 0}
	for at := 500 * time.Millisecond; at < 4*time.Second; at += 500 * time.Millisecond {
		want = append(want, at)
	}
	if len(taken) != len(want) {
		t.Fatalf("taken at %v, want %v", taken, want)
	}
	for i := range want {
		if taken[i] != want[i] {
			t.Errorf("taken at %v, want %v", taken, want)
			break
		}
	}
	if wait := rate.Wait(start.Add(3900 * time.Millisecond)); wait != 100*time.Millisecond {
		t.Errorf("the wait is %s, want 100ms", wait)
	}
}
