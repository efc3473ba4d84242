package orchestrator

import "testing"

func TestReserveHeap(t *testing.T) {
	for _, test := range []struct {
		name, gogc, limit string
		want              int
	}{
		{"by default", "", "", heapReserve},
		{"GOGC is set", "50", "", 0},
		{"GOMEMLIMIT is set", "", "100MiB", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("GOGC", test.gogc)
			t.Setenv("GOMEMLIMIT", test.limit)
			if got := len(reserveHeap()); got != test.want {
				t.Errorf("reserveHeap() has %d bytes, want %d", got, test.want)
			}
		})
	}
}
