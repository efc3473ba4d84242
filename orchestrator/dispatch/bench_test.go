package dispatch

import (
	"testing"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// BenchmarkAttempt measures a call with both ends in this process.
func BenchmarkAttempt(b *testing.B) {
	s := serve(b, "", echo).addr
	d, err := New(Config{Participants: []Participant{{Services: []string{testService}, Target: s}}, Logger: quiet})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = d.Close(b.Context()) })
	b.ReportAllocs()
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		call := attempt()
		for pb.Next() {
			if r := d.Attempt(b.Context(), call); r.Outcome != treatyv1.Outcome_OUTCOME_DONE {
				b.Error(r)
				return
			}
		}
	})
}
