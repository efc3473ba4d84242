package engine_test

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	"google.golang.org/protobuf/proto"

	benchv1 "github.com/treatyhq/treaty/gen/bench/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
)

// TestLongSagaIsAnnounced runs a saga whose journal becomes half as large as is allowed. The log says so once, and so
// does the saga, while it can still be changed.
func TestLongSagaIsAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		w.stop()
		var log strings.Builder
		w.logger = slog.New(slog.NewTextHandler(&log, nil))
		w.open()
		request, err := proto.Marshal(&benchv1.RunRequest{Steps: 10, Payload: make([]byte, 4<<20-128<<10)})
		if err != nil {
			t.Fatal(err)
		}
		releaseEarly, releaseLate := w.participant.stall("action 6"), w.participant.stall("action 10")
		handle, err := w.engine.Start(t.Context(), engine.StartParams{Definition: definition, Request: request})
		if err != nil {
			t.Fatal(err)
		}
		<-w.participant.held
		if warning := w.get(handle.ID).GetWarning(); warning != "" || log.Len() > 0 {
			t.Errorf("after 6 steps: %q, and the log says %s", warning, log.String())
		}
		releaseEarly()
		<-w.participant.held
		if warning := w.get(handle.ID).GetWarning(); !strings.Contains(warning, "saga.Restart") {
			t.Errorf("after 10 steps: %q", warning)
		}
		releaseLate()
		w.await(handle.ID)
		if lines := strings.Count(log.String(), "a saga has become long"); lines != 1 {
			t.Errorf("the log has %d lines about it:\n%s", lines, log.String())
		}
		if warning := w.get(handle.ID).GetWarning(); warning != "" {
			t.Errorf("after the end: %q", warning)
		}
	})
}
