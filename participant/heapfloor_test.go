package participant_test

import (
	"runtime/metrics"
	"testing"

	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/participant"
)

// TestHeapFloor tests that the floor is held while the server serves. Other tests of this process hold the default one,
// which is lower.
func TestHeapFloor(t *testing.T) {
	server, stop := serve(t, participant.Options{HeapFloor: 1 << 40}, &fake{})
	health := healthgrpc.NewHealthClient(testkit.Dial(t, server.Addr().String()))
	if _, err := health.Check(t.Context(), &healthgrpc.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
	if percent := gcPercent(); percent < 10_000 {
		t.Errorf("while it serves, the percentage of the garbage collector is %d", percent)
	}
	stop()
	if percent := gcPercent(); percent >= 10_000 {
		t.Errorf("after it has served, the percentage of the garbage collector is %d", percent)
	}
}

func gcPercent() uint64 {
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
