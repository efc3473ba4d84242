package engine_test

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/engine"
)

// TestLogsThatAllSagasTurnAround refuses every saga of a definition. The log says so once, again later, and when one
// succeeds. It says nothing of a refusal now and then.
func TestLogsThatAllSagasTurnAround(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer // written by one goroutine at a time: sagas follow each other
		w := newFixture(t)
		w.stop()
		w.logger = slog.New(slog.NewTextHandler(&log, nil))
		w.open()
		run := func(refusals int) {
			t.Helper()
			w.participant.answer("action 1", slices.Repeat([]engine.Answer{refused}, refusals)...)
			for range refusals {
				if w.await(w.start(1).ID) != compensated {
					t.Fatal("a saga wasn't compensated")
				}
				synctest.Wait()
			}
		}
		succeed := func() {
			t.Helper()
			if w.await(w.start(1).ID) != succeeded {
				t.Fatal("a saga didn't succeed")
			}
			synctest.Wait()
		}
		for range 40 {
			run(9)
			succeed()
		}
		if log.Len() > 0 {
			t.Fatalf("with a refusal now and then, the log says\n%s", log.String())
		}
		run(40)
		if lines := log.String(); strings.Count(lines, "level=WARN") != 1 || !strings.Contains(lines, "sagas=10") ||
			!strings.Contains(lines, "definition="+definition) || !strings.Contains(lines, "method="+action) ||
			// The text of the refusal isn't logged: it may be about a person.
			!strings.Contains(lines, "code=FailedPrecondition") || strings.Contains(lines, "answered by the fake") {
			t.Fatalf("after 40 refusals, the log says\n%s", lines)
		}
		pass(10 * time.Minute)
		run(1)
		if lines := log.String(); strings.Count(lines, "level=WARN") != 2 || !strings.Contains(lines, "sagas=41") {
			t.Fatalf("ten minutes later, the log says\n%s", lines)
		}
		succeed()
		succeed()
		if n := strings.Count(log.String(), "succeed again"); n != 1 {
			t.Errorf("it says %d times that sagas succeed again", n)
		}
	})
}
