package engine_test

import (
	"testing"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/engine"
)

func TestSourceOfID(t *testing.T) {
	for id, want := range map[string]engine.IDSource{
		engine.NewID(time.Now(), "", definition, ""):        engine.IDFromTime,
		engine.NewID(time.Now(), "", definition, "order-7"): engine.IDFromRequestID,
		engine.ChildID(definition, "sagas/a/steps/1"):       engine.IDFromParent,
		"salary-7": engine.IDFromCaller, "s": engine.IDFromCaller, "": engine.IDFromCaller,
		"refund": engine.IDFromCaller, "card": engine.IDFromCaller,
	} {
		if got := engine.SourceOfID(id); got != want {
			t.Errorf("%q: got %d, want %d", id, got, want)
		}
	}
}
