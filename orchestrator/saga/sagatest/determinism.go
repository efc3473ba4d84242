package sagatest

import (
	"fmt"
	"log/slog"

	"google.golang.org/protobuf/proto"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// usualCauses ends the message about code that isn't deterministic.
const usualCauses = "; the code must do the same each time that it runs: look for time.Now, package rand, the order " +
	"of a map, goroutines, and variables outside of the saga"

// replay runs the code of all sagas of the store again, and compares it with their journals after each turn, as an
// orchestrator does that starts. It returns where they differ.
func (w *World) replay() []string {
	rows, err := w.store.List(w.t.Context(), journal.ListParams{Limit: 1000})
	if err != nil {
		return []string{err.Error()}
	}
	var wrong []string
	for _, row := range rows {
		stored, err := w.store.Load(w.t.Context(), row.ID)
		if err != nil {
			wrong = append(wrong, err.Error())
			continue
		}
		if difference := w.replayOne(stored); difference != "" {
			wrong = append(wrong, difference)
		}
	}
	return wrong
}

// replayOne returns how the code of a saga differs from its journal, or nothing. The turns from the decision to
// compensate on need no code.
func (w *World) replayOne(stored *journal.Journal) string {
	m := machine.New(machine.Config{
		ID: stored.Row.ID, Code: w.code[stored.Row.Definition], Command: w.catalog.Command,
		Event:       w.catalog.EventType,
		Local:       func(method string) bool { return w.code[method] != nil },
		Environment: slog.New(slog.DiscardHandler), Skipped: stored.Turns[0].Number - 1,
	})
	defer m.Close()
	for _, data := range stored.Turns {
		turn := new(treatyv1.Turn)
		if err := proto.Unmarshal(data.Data, turn); err != nil {
			return err.Error()
		}
		if endsCode(turn) {
			return ""
		}
		if err := m.Replay(turn); err != nil {
			return fmt.Sprintf("replaying turn %d of %s: %v", data.Number, wire.SagaName(stored.Row.ID), err)
		}
		if mismatch := m.Mismatch(); mismatch != nil {
			return fmt.Sprintf("the code of %s isn't deterministic: when it ran again, at step %s, it did %s, and "+
				"before %s%s", stored.Row.Definition, mismatch.GetStep(), mismatch.GetFound(), mismatch.GetExpected(),
				usualCauses)
		}
	}
	return ""
}

// endsCode reports whether the code doesn't run from a turn on.
func endsCode(turn *treatyv1.Turn) bool {
	for _, record := range turn.GetRecords() {
		switch record.GetKind().(type) {
		case *treatyv1.Record_CompensationDecided, *treatyv1.Record_SagaSucceeded, *treatyv1.Record_SagaSuspended:
			return true
		}
	}
	return false
}
