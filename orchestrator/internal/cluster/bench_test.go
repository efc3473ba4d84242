package cluster_test

import (
	"context"
	"testing"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/cluster"
	"github.com/treatyhq/treaty/orchestrator/internal/cluster/clustertest"
)

// BenchmarkValid is the cost of the look at the lease before each send.
func BenchmarkValid(b *testing.B) {
	holdings := make(chan *cluster.Holding, 1)
	member, err := cluster.New(cluster.Config{
		Directory: new(clustertest.Memory),
		Shards:    1,
		Lease:     time.Hour,
		Acquired:  func(_ context.Context, h *cluster.Holding) error { holdings <- h; return nil },
		Lost:      func(*cluster.Holding) {},
	})
	if err != nil {
		b.Fatal(err)
	}
	go member.Run(b.Context())
	h := <-holdings
	b.ReportAllocs()
	for b.Loop() {
		if !h.Valid() {
			b.Fatal("the lease has ended")
		}
	}
}
