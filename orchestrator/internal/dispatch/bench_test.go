package dispatch

import (
	"testing"

	"google.golang.org/grpc"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/rawcodec"
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

// BenchmarkTrailer measures what asking for the trailers costs, which every attempt does: the same call with and without.
func BenchmarkTrailer(b *testing.B) {
	s := serve(b, "", echo).addr
	d, err := New(Config{Participants: []Participant{{Services: []string{testService}, Target: s}}, Logger: quiet})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = d.Close(b.Context()) })
	r, _ := d.route(testMethod)
	for _, asked := range []string{"asked", "not asked"} {
		b.Run(asked, func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(64)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					x := &exchange{request: rawcodec.Message("request")}
					var options []grpc.CallOption
					if asked == "asked" {
						options = []grpc.CallOption{grpc.Trailer(&x.trailer)}
					}
					if err := r.participant.conn.Invoke(b.Context(), r.path, &x.request, &x.reply, options...); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
