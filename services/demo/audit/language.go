package audit

import (
	"fmt"
	"slices"
	"strings"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
)

// checkScopes checks that a failed scope is compensated as a whole before the code after it continues, and that nothing
// is compensated without a decision.
func (c *checker) checkScopes(h *history) {
	for i, failed := range h.scopes {
		if slices.ContainsFunc(h.scopes[:i], func(other scope) bool { return other.path == failed.path }) {
			c.report.add(NeverReversed, h.name, "the decision to compensate scope %s was recorded twice", failed.path)
		}
		for _, inside := range h.steps {
			if !failed.holds(inside) {
				continue
			}
			if inside.scheduled.place > failed.decided.place {
				c.report.add(NeverReversed, h.commandID(inside),
					"was scheduled after the decision to compensate its scope %s", failed.path)
			}
			c.checkScopeLeft(h, failed, inside)
		}
	}
	for _, s := range h.steps {
		if s.undoScheduled.missing() || s.unknown || !h.decidedAt.missing() &&
			h.decidedAt.place < s.undoScheduled.place {
			continue
		}
		if !slices.ContainsFunc(h.scopes, func(failed scope) bool {
			return failed.holds(s) &&
				failed.decided.place < s.undoScheduled.place
		}) {
			c.report.add(NeverReversed, h.commandID(s),
				"was compensated without a decision for the saga or for a scope")
		}
	}
}

// checkScopeLeft checks that no step after a failed scope was scheduled before this step in the scope was compensated.
func (c *checker) checkScopeLeft(h *history, failed scope, inside *step) {
	if !inside.compensatable() || !inside.mayHaveRun() {
		return
	}
	for _, behind := range h.steps {
		if failed.holds(behind) || behind.scheduled.place < failed.decided.place || !behind.follows(inside) {
			continue
		}
		if inside.undoneAt.missing() || inside.undoneAt.place > behind.scheduled.place {
			c.report.add(ReverseOrder, h.name,
				"step %s was scheduled before step %s of the failed scope %s was compensated",
				behind.path, inside.path, failed.path)
		}
	}
}

// checkBroadcasts checks that a broadcast is one command to each participant that the journal names, and to no other.
func (c *checker) checkBroadcasts(h *history) {
	for _, s := range h.steps {
		if to := s.intent.GetParticipant(); to != "" && !slices.ContainsFunc(h.broadcasts, func(b broadcast) bool {
			i := slices.Index(b.GetParticipants(), to)
			return i >= 0 && s.path == b.to(i) && b.scheduled.place < s.scheduled.place
		}) {
			c.report.add(DurableBeforeSent, h.commandID(s), "is for %s, but no broadcast in the journal goes there", to)
		}
	}
	for _, b := range h.broadcasts {
		subject := wire.JoinStep(h.name, b.GetBroadcast())
		services := make(map[string]string)
		for i, participant := range b.GetParticipants() {
			s := h.byPath[b.to(i)]
			if h.end == treatyv1.SagaState_SAGA_STATE_SUCCEEDED && !h.inFailedBroadcast(b) &&
				(s == nil || s.intent.GetParticipant() != participant || s.done.missing()) {
				c.report.add(AllOrNothing, subject, "the broadcast wasn't done by %s, but the saga succeeded",
					participant)
			}
			row := c.rows[command{wire.JoinStep(h.name, b.to(i)), Action}]
			if row == nil {
				continue
			}
			if other := services[row.service]; other != "" {
				c.report.add(OneEffect, subject, "the broadcast reached %s twice: for %s and for %s", row.service,
					other, participant)
			}
			services[row.service] = participant
			if before := c.reached[participant]; before != "" && before != row.service {
				c.report.add(OneEffect, row.CommandID, "is for %s but reached %s; other commands for it reached %s",
					participant, row.service, before)
			}
			c.reached[participant] = row.service
		}
	}
}

// to returns the path of the step for the participant with an index.
func (b *broadcast) to(index int) string { return fmt.Sprintf("%s.%d.1", b.GetBroadcast(), index+1) }

func (h *history) inFailedBroadcast(b broadcast) bool {
	return slices.ContainsFunc(h.scopes, func(failed scope) bool {
		return strings.HasPrefix(b.GetBroadcast(),
			failed.path+".")
	})
}

// checkWaits checks that waits were recorded first and ended once, and that the events taken exist, were awaited, and
// were taken once.
func (c *checker) checkWaits(h *history) {
	for _, w := range h.waits {
		subject := h.name + " wait " + w.path
		switch {
		case w.intent == nil:
			c.report.add(DurableBeforeSent, subject, "it ended, but was never scheduled")
			continue
		case w.scheduledAgain:
			c.report.add(OneEffect, subject, "it was scheduled twice")
		case w.endedAgain:
			c.report.add(OneEffect, subject, "it ended twice")
		case w.end == nil && h.end == treatyv1.SagaState_SAGA_STATE_SUCCEEDED:
			c.report.add(AcknowledgedIsFinal, subject, "it never ended, but the saga succeeded")
		}
		if event := w.end.GetEvent(); event != nil {
			c.checkTaken(h, w, event)
		}
	}
}

// checkTaken compares an event that a saga took with what it awaited, what it took before, and what the store holds.
func (c *checker) checkTaken(h *history, w *wait, event *treatyv1.EventArrived) {
	subject, position := h.name+" wait "+w.path, event.GetPosition()
	keys := w.intent.GetEvents()
	if i := event.GetIndex(); i < 0 || int(i) >= len(keys) {
		c.report.add(DurableBeforeSent, subject, "took event %d of the %d that it awaited", i, len(keys))
		return
	}
	key := keys[event.GetIndex()]
	if h.taken[position] || position <= h.takenFrom[keyOf(key)] {
		c.report.add(OneEffect, subject, "the event at position %d was taken before", position)
	}
	h.taken[position] = true
	if c.facts.Events == nil {
		return
	}
	stored := c.events[position]
	switch {
	case stored == nil:
		c.report.add(DurableBeforeSent, subject, "took an event at position %d, where the store has none", position)
	case stored.GetType() != key.GetType() || stored.GetSubject() != key.GetSubject():
		c.report.add(DurableBeforeSent, subject, "awaited %s, but took the event at position %d, which is %s of %s",
			keyOf(key), position, stored.GetType(), stored.GetSubject())
	case stored.GetSource() != event.GetSource() || stored.GetId() != event.GetId() ||
		string(stored.GetData().GetValue()) != string(event.GetData()):
		c.report.add(DurableBeforeSent, subject,
			"took the event %s of %s at position %d, where the store has %s of %s, or other content",
			event.GetId(), event.GetSource(), position, stored.GetId(), stored.GetSource())
	}
}

// checkParent compares a child saga with the step that started it.
func (c *checker) checkParent(child *history) {
	parent := child.started.GetParent()
	if parent == nil {
		return
	}
	name, path, _ := wire.SplitStep(parent.GetCommandId())
	h := c.sagas[name]
	if h == nil {
		if parent.GetLocal() {
			c.report.add(DurableBeforeSent, child.name, "is the step %s, but there is no such saga",
				parent.GetCommandId())
		}
		return
	}
	if round, _ := roundOf(path); round < h.round {
		return // the step of an earlier round is no longer kept
	}
	s := h.byPath[path]
	switch {
	case s == nil || s.scheduled.missing():
		c.report.add(DurableBeforeSent, child.name, "is the step %s, but the journal has no such step",
			parent.GetCommandId())
		return
	case s.intent.GetMethod() != child.started.GetDefinition():
		c.report.add(DurableBeforeSent, child.name, "is a %s, but its step %s calls %s",
			child.started.GetDefinition(), parent.GetCommandId(), s.intent.GetMethod())
	case child.first().GetSagaStarted() != nil && child.records[0].GetTime().AsTime().Before(s.scheduled.time):
		c.report.add(DurableBeforeSent, child.name, "was started before its step %s was recorded",
			parent.GetCommandId())
	}
	if child.decided.GetCause() != treatyv1.CompensationCause_COMPENSATION_CAUSE_PARENT {
		return
	}
	if s.undoScheduled.missing() || child.decidedAt.time.Before(s.undoScheduled.time) {
		c.report.add(DurableBeforeSent, child.name,
			"was compensated for its parent before the parent recorded that it would compensate the step %s",
			parent.GetCommandId())
	}
}

// isChild reports whether a step is a child saga.
func (c *checker) isChild(s *step) bool {
	return c.definitions[s.intent.GetMethod()]
}

// checkChild compares a step that is a child saga with that saga.
func (c *checker) checkChild(id string, s *step) {
	child := c.children[id]
	end := treatyv1.SagaState_SAGA_STATE_UNSPECIFIED
	if child != nil {
		end = child.end
	}
	switch {
	case !s.undoneAt.missing():
		if end != treatyv1.SagaState_SAGA_STATE_COMPENSATED {
			c.report.add(AllOrNothing, id, "is compensated, but its child saga %s", endSays(child))
		}
	case !s.done.missing() && s.undoScheduled.missing():
		if end != treatyv1.SagaState_SAGA_STATE_SUCCEEDED {
			c.report.add(AllOrNothing, id, "is done, but its child saga %s", endSays(child))
		}
	case !s.refused.missing() && child != nil && end != treatyv1.SagaState_SAGA_STATE_COMPENSATED:
		c.report.add(AllOrNothing, id, "is refused, but its child saga %s", endSays(child))
	}
}

func endSays(child *history) string {
	if child == nil {
		return "was never started"
	}
	return "ended as " + child.end.String()
}

// language counts the parts of the saga language that a saga used.
func (c *Counts) language(h *history) {
	if h.started.GetParent() != nil {
		c.Children++
		if h.actedUntil.Before(h.endTime) {
			c.Reopened++
		}
	}
	c.Scopes += len(h.scopes)
	c.Broadcasts += len(h.broadcasts)
	if h.round > 1 {
		c.Restarted++
	}
	for _, w := range h.waits {
		switch {
		case w.end.GetEvent() != nil:
			c.Woken++
		case w.end.GetDue() != nil && len(w.intent.GetEvents()) > 0:
			c.Expired++
		}
	}
}
