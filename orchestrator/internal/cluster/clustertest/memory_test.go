package clustertest_test

import (
	"testing"

	"github.com/treatyhq/treaty/orchestrator/internal/cluster/clustertest"
)

func TestMemory(t *testing.T) {
	clustertest.Exercise(t, func(*testing.T) clustertest.Directory { return new(clustertest.Memory) })
}
