package engine

import (
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// changedEventsPause is the pause between two pages of sagas that are read for changed events, so that the start
// isn't slowed down.
const changedEventsPause = 50 * time.Millisecond

// warnOfChangedEvents reads the sagas that await events, and logs which event types have changed so that no event wakes
// them: once for each change, with the number of sagas and one of them. It runs in the background after the start.
func (e *Engine) warnOfChangedEvents() {
	type change struct{ expected, found string }
	counts, examples := make(map[change]int), make(map[change]string)
	for after := ""; ; {
		page, err := e.config.Store.Open(e.work.ctx, journal.OpenParams{
			After: after, Limit: recoverPage, Which: journal.Unended,
		})
		if err != nil {
			if !e.work.Closed() {
				e.config.Logger.Warn("reading the sagas that await events failed; run verify to find events that have "+
					"changed", "error", err)
			}
			return
		}
		for _, stored := range page {
			after = stored.Row.ID
			if wrong := e.changedEvent(stored); wrong != nil {
				of := change{wrong.GetExpected(), wrong.GetFound()}
				counts[of]++
				examples[of] = wire.SagaName(stored.Row.ID)
			}
		}
		if len(page) < recoverPage {
			break
		}
		if !e.work.pause(changedEventsPause) {
			return
		}
	}
	for of, sagas := range counts {
		e.config.Logger.Warn("sagas await an event that can't wake them", "expected", of.expected, "found", of.found,
			"sagas", sagas, "saga", examples[of])
	}
}

// changedEvent returns how an event has changed that a stored saga awaits, or nil.
func (e *Engine) changedEvent(stored *journal.Journal) *treatyv1.SagaSuspended {
	if stored.Err != nil || len(stored.Row.Awaits) == 0 {
		return nil
	}
	saga, err := fold(stored)
	if err != nil {
		return nil // it is reported when the saga is loaded
	}
	return changedWait(e.config.Catalog, saga)
}
