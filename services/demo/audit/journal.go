package audit

import (
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// checkJournal checks that a journal is consistent.
func (c *checker) checkJournal(h *history) {
	if first := h.first(); h.started == nil || first.GetSagaStarted() == nil && first.GetSagaRestarted() == nil {
		c.report.add(AcknowledgedIsFinal, h.name, "its journal doesn't begin with its start")
	}
	var decided, ended bool
	for _, r := range h.records {
		record := r.GetRecord()
		if ended && h.reopens(record.GetCompensationDecided()) {
			ended = false
		}
		if ended {
			c.report.add(NothingAfterTheEnd, r.GetName(), "%s was recorded after the saga's end", kindOf(record))
		}
		switch record.GetKind().(type) {
		case *treatyv1.Record_StepScheduled:
			if decided {
				c.report.add(NeverReversed, r.GetName(), "step %s was scheduled after the decision to compensate",
					record.GetStepScheduled().GetStep())
			}
		case *treatyv1.Record_CompensationDecided:
			if decided {
				c.report.add(NeverReversed, r.GetName(), "the decision to compensate was recorded twice")
			}
			decided = true
		case *treatyv1.Record_SagaSucceeded:
			if decided {
				c.report.add(NeverReversed, r.GetName(), "the saga succeeded after the decision to compensate")
			}
			ended = true
		case *treatyv1.Record_SagaCompensated:
			if !decided {
				c.report.add(NeverReversed, r.GetName(), "the saga was compensated without a decision")
			}
			ended = true
		}
	}
	for _, s := range h.steps {
		switch {
		case s.scheduled.missing():
			c.report.add(DurableBeforeSent, h.commandID(s), "it ended, but its intent was never recorded")
		case s.scheduledAgain:
			c.report.add(OneEffect, h.commandID(s), "it was scheduled twice")
		case s.endedAgain:
			c.report.add(OneEffect, h.commandID(s), "it ended twice")
		}
	}
}

func (h *history) first() *treatyv1.Record {
	if len(h.records) == 0 {
		return nil
	}
	return h.records[0].GetRecord()
}

func kindOf(record *treatyv1.Record) string {
	message := record.ProtoReflect()
	if field := message.WhichOneof(message.Descriptor().Oneofs().ByName("kind")); field != nil {
		return string(field.Name())
	}
	return "nothing"
}

// attempts returns how many attempts a record counts.
func attempts(record *treatyv1.Record) uint32 {
	return record.GetStepDone().GetAttempts() + record.GetStepRefused().GetAttempts() +
		record.GetStepUnknown().GetAttempts() + record.GetCompensationDone().GetAttempts()
}

// checkEnd compares a final saga's steps, in the journal and in the ledgers, with its state.
func (c *checker) checkEnd(h *history) {
	for _, s := range h.steps {
		id := h.commandID(s)
		action, undo := c.rows[command{id, Action}], c.rows[command{id, Compensation}]
		if c.isChild(s) {
			c.checkChild(id, s)
		} else {
			c.checkTold(id, s, action, undo)
		}
		switch h.end {
		case treatyv1.SagaState_SAGA_STATE_SUCCEEDED:
			switch {
			case h.inFailedScope(s):
				c.checkBackward(id, s, action, "its scope failed")
			case s.unknown:
				c.checkBackward(id, s, action, "the saga continued without it")
			default:
				c.checkForward(id, s, undo)
			}
		case treatyv1.SagaState_SAGA_STATE_COMPENSATED:
			c.checkBackward(id, s, action, "the saga was compensated")
		}
	}
}

// checkTold compares what the journal says about a step with what the participant did.
func (c *checker) checkTold(id string, s *step, action, undo *placed) {
	if !s.changes() {
		return
	}
	if !s.done.missing() && (action == nil || !action.Verdict.took()) {
		c.report.add(AllOrNothing, id, "is done in the journal, but its participant %s", ledgerSays(action))
	}
	if !s.refused.missing() && !s.inDoubt && action != nil && action.Verdict.took() &&
		(!c.undoneWhileLost(s, undo) || undo.Verdict != Executed) {
		c.report.add(AllOrNothing, id, "is refused in the journal, but its participant %s", ledgerSays(action))
	}
	if !s.undoneAt.missing() && undo == nil {
		c.report.add(NullCompensationIsNoOp, id,
			"is compensated in the journal, but not in its participant's ledger")
	}
}

// undoneWhileLost reports whether a step was compensated and its saga's store was then replaced by a backup from
// before. Its participant refused the action when the restored saga sent it again.
func (c *checker) undoneWhileLost(s *step, undo *placed) bool {
	return !s.refused.missing() && undo != nil && c.facts.lost(undo.Time)
}

func ledgerSays(row *placed) string {
	if row == nil {
		return "never received it"
	}
	return "has it as " + string(row.Verdict)
}

// checkForward checks that in a saga that succeeded, no step is half done and none was compensated.
func (c *checker) checkForward(id string, s *step, undo *placed) {
	if s.settledByUndo() {
		if s.undoneAt.missing() {
			c.report.add(AllOrNothing, id, "may have run and isn't compensated, but the saga succeeded")
		}
		return
	}
	if !s.undoneAt.missing() {
		c.report.add(AllOrNothing, id, "was compensated, but the saga succeeded")
		return
	}
	if s.done.missing() && s.mayHaveRun() {
		c.report.add(AllOrNothing, id, "may have run and isn't done, but the saga succeeded")
	}
	if undo != nil {
		c.report.add(AllOrNothing, id, "was compensated by its participant, but the saga succeeded")
	}
}

// checkBackward checks that everything that may have run is compensated, for a given reason.
func (c *checker) checkBackward(id string, s *step, action *placed, reason string) {
	switch {
	case !s.changes():
	case s.compensatable():
		undo := c.rows[command{id, Compensation}]
		if s.mayHaveRun() && s.undoneAt.missing() {
			c.report.add(AllOrNothing, id, "may have run and isn't compensated, but %s", reason)
		}
		if action != nil && action.Verdict.took() && (undo == nil || undo.Verdict != Executed) {
			c.report.add(AllOrNothing, id, "took effect at %s and wasn't compensated there, but %s", action.service,
				reason)
		}
	case s.mayHaveRun():
		c.report.add(AllOrNothing, id, "can't be compensated and may have run, but %s", reason)
	}
}

// checkOrder checks that of two steps that don't run in parallel, the later one is compensated before the compensation
// of the earlier one starts.
func (c *checker) checkOrder(h *history) {
	for i, earlier := range h.steps {
		if earlier.undoScheduled.missing() {
			continue
		}
		for _, later := range h.steps[i+1:] {
			if !later.follows(earlier) || !later.compensatable() || !later.mayHaveRun() {
				continue
			}
			if later.scheduled.place > earlier.undoScheduled.place {
				continue // the earlier one was undone with its scope, and the saga continued
			}
			if later.undoneAt.missing() || later.undoneAt.place > earlier.undoScheduled.place {
				c.report.add(ReverseOrder, h.name,
					"the compensation of step %s was scheduled before step %s was compensated",
					earlier.path, later.path)
			}
			first, second := c.rows[command{h.commandID(later), Compensation}],
				c.rows[command{h.commandID(earlier), Compensation}]
			// A restored store doesn't know that a step was refused, and compensates it although that does nothing.
			nothing := first != nil && first.Verdict == NullCompensated && second != nil && c.facts.lost(second.Time)
			if first != nil && second != nil && second.Time.Before(first.Time) && !nothing {
				c.report.add(ReverseOrder, h.name, "step %s was compensated at %s before step %s was at %s",
					earlier.path,
					second.service, later.path, first.service)
			}
		}
	}
}
