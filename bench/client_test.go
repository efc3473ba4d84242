package main

import (
	"testing"
	"time"
)

// TestSummarize counts the sagas that ended in the measured part.
func TestSummarize(t *testing.T) {
	begin := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	end := begin.Add(2 * time.Second)
	for _, s := range []struct {
		name         string
		workers      []worker
		wantSagas    int
		wantElapsed  time.Duration
		wantP50      time.Duration
		wantAllSagas int
	}{
		{
			"in time",
			[]worker{
				{latencies: []time.Duration{3, 1}, late: []time.Duration{9}, last: end.Add(9), all: 4},
				{latencies: []time.Duration{2}, all: 1},
			},
			3, 2 * time.Second, 2, 5,
		},
		{
			"all too late",
			[]worker{
				{late: []time.Duration{7}, last: end.Add(2 * time.Second), all: 1},
				{late: []time.Duration{5}, last: end.Add(time.Second), all: 2},
			},
			2, 4 * time.Second, 7, 3,
		},
	} {
		got, err := summarize(s.workers, begin, end)
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
			continue
		}
		if got.Sagas != s.wantSagas || got.Elapsed != s.wantElapsed || got.P50 != s.wantP50 ||
			got.AllSagas != s.wantAllSagas {
			t.Errorf("%s: %+v, want %d sagas of %d in %v, and a median of %v",
				s.name, got, s.wantSagas, s.wantAllSagas, s.wantElapsed, s.wantP50)
		}
	}
	if _, err := summarize([]worker{{}}, begin, end); err == nil {
		t.Error("no saga has ended, and there is a round")
	}
}
