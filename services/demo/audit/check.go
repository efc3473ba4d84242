package audit

import (
	"slices"
	"strings"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
)

// Check checks the facts against the invariants.
func Check(facts *Facts) *Report {
	c := &checker{facts: facts, report: &Report{}, sagas: make(map[string]*history), rows: make(map[command]*placed),
		children: make(map[string]*history), definitions: make(map[string]bool),
		events:  make(map[uint64]*treatyv1.PublishedEvent),
		reached: make(map[string]string), lost: make(map[string]bool),
	}
	c.index()
	c.checkStarts()
	for _, name := range c.names {
		c.checkJournal(c.sagas[name])
		c.checkScopes(c.sagas[name])
		c.checkBroadcasts(c.sagas[name])
		c.checkWaits(c.sagas[name])
		c.checkParent(c.sagas[name])
		c.checkEnd(c.sagas[name])
		c.checkOrder(c.sagas[name])
	}
	c.checkLedgers()
	c.checkEffects()
	c.report.sort()
	return c.report
}

// checker is one audit.
type checker struct {
	facts  *Facts
	report *Report

	sagas map[string]*history
	names []string // of the sagas, in the order of the facts
	rows  map[command]*placed
	order []*placed // the rows, in the order of the facts

	children    map[string]*history // by the command id of the step
	definitions map[string]bool     // of all sagas
	lost        map[string]bool     // the sagas that the orchestrator lists as lost

	events map[uint64]*treatyv1.PublishedEvent // by position
	// by the participant of a broadcast, the service that received its commands
	reached map[string]string
}

// command identifies a row among those of all ledgers.
type command struct {
	id        string
	direction Direction
}

// placed is a row with its participant.
type placed struct {
	Row
	service string
}

func (c *checker) index() {
	for _, event := range c.facts.Events {
		c.events[event.GetPosition()] = event
	}
	for _, name := range c.facts.Lost {
		c.lost[name] = true
	}
	c.report.Lost = c.facts.Lost
	for _, s := range c.facts.Sagas {
		h := newHistory(s)
		if c.sagas[h.name] != nil {
			c.report.add(AcknowledgedIsFinal, h.name, "exists twice")
			continue
		}
		c.sagas[h.name] = h
		c.names = append(c.names, h.name)
		c.definitions[h.started.GetDefinition()] = true
		if parent := h.started.GetParent().GetCommandId(); parent != "" {
			if other := c.children[parent]; other != nil {
				c.report.add(OneEffect, parent, "is both the saga %s and the saga %s", other.name, h.name)
			}
			c.children[parent] = h
		}
		c.countSaga(h)
	}
	for _, ledger := range c.facts.Ledgers {
		for _, row := range ledger.Rows {
			p := &placed{Row: row, service: ledger.Service}
			c.order = append(c.order, p)
			c.countRow(row)
			key := command{row.CommandID, row.Direction}
			if other := c.rows[key]; other != nil {
				c.report.add(OneEffect, row.CommandID, "%s is in two ledgers: of %s and of %s", row.Direction,
					other.service, ledger.Service)
				continue
			}
			c.rows[key] = p
		}
	}
	c.report.Counts.Effects = len(c.facts.Effects)
}

func (c *checker) countSaga(h *history) {
	counts := &c.report.Counts
	counts.Sagas++
	counts.Records += len(h.records)
	switch h.end {
	case treatyv1.SagaState_SAGA_STATE_SUCCEEDED:
		counts.Succeeded++
	case treatyv1.SagaState_SAGA_STATE_COMPENSATED:
		counts.Compensated++
		if h.decided.GetCause() == treatyv1.CompensationCause_COMPENSATION_CAUSE_CANCELLED {
			counts.Cancelled++
		}
	}
	for _, s := range h.steps {
		if s.unknown {
			counts.Unknown++
		}
		if s.inDoubt {
			counts.InDoubt++
		}
	}
	if h.restored != nil {
		counts.Restored++
		if len(h.restored.GetCommands()) > 0 && !h.decidedByPerson {
			counts.CaughtUp++
		}
		if h.decidedByPerson {
			counts.DecidedByPerson++
		}
	}
	counts.language(h)
	for _, r := range h.records {
		counts.Attempts += int(attempts(r.GetRecord()))
	}
}

func (c *checker) countRow(row Row) {
	counts := &c.report.Counts
	counts.Commands++
	counts.Duplicates += row.Duplicates
	switch row.Verdict {
	case Accepted:
		counts.Accepted++
	case Executed:
		counts.Executed++
		if row.Direction == Compensation {
			counts.Undone++
		}
	case Refused:
		counts.Refused++
	case NullCompensated:
		counts.NullCompensated++
	case RefusedLate:
		counts.RefusedLate++
	}
}

// checkStarts compares what clients know with the orchestrator.
func (c *checker) checkStarts() {
	byRequest := make(map[[2]string]string)
	for _, name := range c.names {
		h := c.sagas[name]
		if id := h.started.GetRequestId(); id != "" {
			key := [2]string{h.started.GetDefinition(), id}
			if other := byRequest[key]; other != "" {
				c.report.add(AcknowledgedIsFinal, name, "has the same request id %s as %s", id, other)
			}
			byRequest[key] = name
		}
		if h.end == treatyv1.SagaState_SAGA_STATE_UNSPECIFIED {
			c.report.add(AcknowledgedIsFinal, name, "isn't final: %s", h.view.GetState())
		} else if h.view.GetState() != h.end {
			c.report.add(AcknowledgedIsFinal, name, "is shown as %s, but its journal ends as %s", h.view.GetState(),
				h.end)
		}
	}
	for _, start := range c.facts.Starts {
		c.report.Counts.Acknowledged++
		if start.Before != treatyv1.SagaState_SAGA_STATE_UNSPECIFIED {
			c.report.Counts.EndedOtherwise++
		}
		told := start.Told != treatyv1.SagaState_SAGA_STATE_UNSPECIFIED
		if told {
			c.report.Counts.Told++
		}
		h := c.sagas[start.Saga]
		switch {
		case h == nil:
			c.report.add(AcknowledgedIsFinal, start.Saga,
				"was acknowledged to the client with request id %s, but doesn't exist", start.RequestID)
		case h.started.GetDefinition() != start.Definition || h.started.GetRequestId() != start.RequestID:
			c.report.add(AcknowledgedIsFinal, start.Saga,
				"was acknowledged as %s with request id %s, but is %s with %s",
				start.Definition, start.RequestID, h.started.GetDefinition(), h.started.GetRequestId())
		case told && start.Told != h.end:
			c.report.add(AcknowledgedIsFinal, start.Saga, "ended as %s for its client, but as %s in its journal",
				start.Told, h.end)
		}
	}
}

// checkLedgers compares each command that a participant received with its saga's journal.
func (c *checker) checkLedgers() {
	last := make(map[string]int64)
	for _, row := range c.order {
		if row.Sequence <= last[row.service] {
			c.report.add(OneEffect, row.CommandID, "the ledger of %s isn't in order: %d after %d", row.service,
				row.Sequence, last[row.service])
		}
		last[row.service] = row.Sequence
		name, path, ok := wire.SplitStep(row.CommandID)
		h := c.sagas[name]
		if ok && h == nil && c.lost[name] {
			c.checkVerdict(row)
			continue
		}
		if !ok || h == nil {
			c.report.add(DurableBeforeSent, row.CommandID, "reached %s, but there is no such saga", row.service)
			continue
		}
		if round, _ := roundOf(path); round >= h.round {
			c.checkIntent(h, h.byPath[path], row) // the intents of earlier rounds are no longer kept
		}
		c.checkVerdict(row)
		end := h.endTime
		if row.Direction == Action {
			end = h.actedUntil
		}
		if row.Verdict.took() && !end.IsZero() && row.Time.After(end) {
			c.report.add(NothingAfterTheEnd, row.CommandID, "its %s took effect at %s %s after the saga's end",
				row.Direction, row.service, row.Time.Sub(end))
		}
	}
}

// checkIntent checks that the journal held the command when it arrived.
func (c *checker) checkIntent(h *history, s *step, row *placed) {
	if s == nil && c.explained(h, row) {
		return
	}
	if s == nil {
		c.report.add(DurableBeforeSent, row.CommandID, "reached %s, but the journal of %s has no such step",
			row.service, h.name)
		return
	}
	intended := s.scheduled
	if row.Direction == Compensation {
		intended = s.undoScheduled
	}
	switch {
	case intended.missing() && row.Direction == Compensation && c.undoneWhileLost(s, row):
	case intended.missing():
		c.report.add(DurableBeforeSent, row.CommandID, "its %s reached %s without an intent in the journal",
			row.Direction, row.service)
	case row.Time.Before(intended.time) && !c.facts.lost(row.Time):
		c.report.add(DurableBeforeSent, row.CommandID, "its %s reached %s %s before its intent was recorded",
			row.Direction, row.service, intended.time.Sub(row.Time))
	}
}

// explained reports whether a command that the saga's journal doesn't have was lost with the store, without an effect
// that nobody was told of.
func (c *checker) explained(h *history, row *placed) bool {
	if h.restored == nil || !c.facts.lost(row.Time) {
		return false
	}
	undo := c.rows[command{row.CommandID, Compensation}]
	if row.Direction == Compensation || !row.Verdict.took() || undo != nil && undo.Verdict == Executed {
		return true
	}
	_, path, _ := wire.SplitStep(row.CommandID)
	told := slices.ContainsFunc(h.restored.GetCommands(), func(known *treatyv1.RestoredCommand) bool {
		return known.GetStep() == path && !known.GetCompensation() && known.GetHasEffect()
	})
	if told && h.decidedByPerson {
		c.report.ByHand = append(c.report.ByHand, row.CommandID)
		return true
	}
	return false
}

// checkVerdict compares the action and the compensation of a command.
func (c *checker) checkVerdict(row *placed) {
	other := c.rows[command{row.CommandID, Compensation}]
	if row.Direction == Compensation {
		other = c.rows[command{row.CommandID, Action}]
	}
	switch {
	case row.Direction == Action && row.Verdict == NullCompensated, row.Direction == Compensation &&
		(row.Verdict == Refused || row.Verdict == RefusedLate):
		c.report.add(NullCompensationIsNoOp, row.CommandID, "its %s has the verdict %s", row.Direction, row.Verdict)
	case row.Direction == Action && row.Verdict.took() && other != nil && other.Sequence < row.Sequence,
		// An accepted action keeps its sequence when it is completed, and has the time of its completion.
		row.Direction == Action && row.Verdict == Executed && other != nil && other.Time.Before(row.Time):
		c.report.add(NoActionAfterCompensation, row.CommandID, "took effect at %s after its compensation", row.service)
	case row.Direction == Action && row.Verdict == RefusedLate && (other == nil || other.Sequence > row.Sequence):
		c.report.add(NoActionAfterCompensation, row.CommandID,
			"was refused as late at %s, but no compensation came before it", row.service)
	case row.Direction == Compensation && row.Verdict == Executed && (other == nil || !other.Verdict.took()):
		c.report.add(NullCompensationIsNoOp, row.CommandID, "was compensated at %s, but never took effect there",
			row.service)
	case row.Direction == Compensation && row.Verdict == NullCompensated && other != nil && other.Verdict.took():
		c.report.add(NullCompensationIsNoOp, row.CommandID, "took effect at %s, but its compensation did nothing",
			row.service)
	}
}

// thirdParty begins the names of records that a third party keeps, outside of the participant's transaction. If the
// participant is killed in between, the command is sent again, unless its saga was lost with the orchestrator's store.
const thirdParty = "register/"

// checkEffects compares the participants' own tables with their ledgers.
func (c *checker) checkEffects() {
	type key struct{ service, resource string }
	found := make(map[key][]Effect)
	for _, e := range c.facts.Effects {
		k := key{e.Service, e.Resource}
		found[k] = append(found[k], e)
		if len(found[k]) == 2 {
			c.report.add(OneEffect, e.Resource, "exists more than once at %s", e.Service)
		}
	}
	wanted := make(map[key]string)
	for _, row := range c.order {
		if row.Direction != Action || row.Verdict != Executed {
			continue
		}
		undo := c.rows[command{row.CommandID, Compensation}]
		undone := undo != nil && undo.Verdict == Executed
		for _, resource := range row.Effects {
			k := key{row.service, resource}
			if other := wanted[k]; other != "" {
				c.report.add(OneEffect, resource, "is the effect of both %s and %s at %s", other, row.CommandID,
					row.service)
			}
			wanted[k] = row.CommandID
			live := slices.ContainsFunc(found[k], func(e Effect) bool { return !e.Undone })
			switch {
			case undone && live:
				c.report.add(AllOrNothing, row.CommandID, "was compensated at %s, but its effect %s still exists",
					row.service, resource)
			case !undone && !live:
				c.report.add(AllOrNothing, row.CommandID, "took effect at %s, but its effect %s doesn't exist",
					row.service, resource)
			}
		}
	}
	for _, e := range c.facts.Given {
		wanted[key{e.Service, e.Resource}] = "somebody else"
	}
	for _, e := range c.facts.Effects {
		if e.Undone || wanted[key{e.Service, e.Resource}] != "" {
			continue
		}
		if len(c.facts.Restores) > 0 && strings.HasPrefix(e.Resource, thirdParty) {
			c.report.Orphans = append(c.report.Orphans, e.Resource)
		} else {
			c.report.add(OneEffect, e.Resource, "exists at %s, but no command in the ledger caused it", e.Service)
		}
	}
}
