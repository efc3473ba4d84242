package sagatest_test

import (
	"testing"

	"github.com/treatyhq/treaty/orchestrator/saga/sagatest"
)

func TestExplore(t *testing.T) {
	report := sagatest.Explore(t, register, changeAddress, moving())
	t.Log(report.Took)
}
