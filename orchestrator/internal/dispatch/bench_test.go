package dispatch

import (
	"testing"

	"google.golang.org/grpc"

	"github.com/treatyhq/treaty/orchestrator/internal/rawcodec"
)

// BenchmarkAttempt measures a call with both ends in this process.
func BenchmarkAttempt(b *testing.B) {
	s := serve(b, anyPort, echo).addr
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
			if r := d.Attempt(b.Context(), call); r.Outcome != outcomeDone {
				b.Error(r)
				return
			}
		}
	})
}

// BenchmarkTrailer measures what it costs to receive the trailer, as every attempt does: the same call with and
// without.
func BenchmarkTrailer(b *testing.B) {
	s := serve(b, anyPort, echo).addr
	d, err := New(Config{Participants: []Participant{{Services: []string{testService}, Target: s}}, Logger: quiet})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = d.Close(b.Context()) })
	r, _ := d.route(testMethod)
	for _, trailer := range []string{"with", "without"} {
		b.Run(trailer, func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(64)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					x := &exchange{request: rawcodec.Message("request")}
					var options []grpc.CallOption
					if trailer == "with" {
						options = []grpc.CallOption{grpc.Trailer(&x.trailer)}
					}
					err := r.participant.conn.Invoke(b.Context(), r.path, &x.request, &x.reply, options...)
					if err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
