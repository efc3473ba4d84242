package audit

import (
	"slices"
	"strconv"
	"strings"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
)

// history is one saga's journal, read without the machine's code.
type history struct {
	name    string
	view    *treatyv1.Saga
	records []*treatyv1.SagaRecord

	started *treatyv1.SagaStarted
	decided *treatyv1.CompensationDecided
	steps   []*step // in the order of their scheduling; only those of the last round
	byPath  map[string]*step
	round   int

	scopes     []scope // those that failed while the saga continued
	waits      []*wait // those of the last round
	broadcasts []broadcast
	taken      map[uint64]bool   // by position
	takenFrom  map[string]uint64 // by key, the position of the last event that earlier rounds took
	decidedAt  moment

	// restored is what participants knew when the store was last restored from a backup, and decidedByPerson whether a
	// person then decided how the saga continues.
	restored        *treatyv1.SagaRestored
	decidedByPerson bool
	waitsForPerson  bool // it is suspended for that

	// end is the final state, or unspecified if there is none. endTime is when the saga ended. actedUntil is the time
	// after which no action could follow: for a child that was compensated after it had succeeded, when it succeeded.
	end                 treatyv1.SagaState
	endTime, actedUntil time.Time
}

// scope is a scope that failed and was compensated while the saga continued.
type scope struct {
	path    string
	decided moment
}

// wait is the journal's records about one wait.
type wait struct {
	path                       string
	intent                     *treatyv1.WaitScheduled
	end                        *treatyv1.WaitEnded
	scheduled, endedAt         moment
	scheduledAgain, endedAgain bool
}

// broadcast is one command to several participants.
type broadcast struct {
	*treatyv1.BroadcastScheduled

	scheduled moment
}

// step is the journal's records about one step.
type step struct {
	path   string
	intent *treatyv1.StepScheduled

	scheduled, done, refused   moment
	undoScheduled, undoneAt    moment
	unknown                    bool
	inDoubt                    bool // it was refused, but an earlier attempt may have run
	scheduledAgain, endedAgain bool
}

// moment is a position in the journal: a record's index and time. The zero value is none.
type moment struct {
	place int // from 1
	time  time.Time
}

func (m moment) missing() bool { return m.place == 0 }

func newHistory(s Saga) *history {
	h := &history{
		name: s.View.GetName(), view: s.View, records: s.Records, byPath: make(map[string]*step),
		taken: make(map[uint64]bool),
	}
	for i, r := range s.Records {
		h.read(moment{place: i + 1, time: r.GetTime().AsTime()}, r.GetRecord())
	}
	return h
}

func (h *history) read(at moment, record *treatyv1.Record) {
	switch r := record.GetKind().(type) {
	case *treatyv1.Record_SagaStarted:
		h.started, h.round = r.SagaStarted, 1
	case *treatyv1.Record_SagaRestarted:
		h.started, h.round = r.SagaRestarted.GetStarted(), int(r.SagaRestarted.GetRound())
		h.restart(r.SagaRestarted)
	case *treatyv1.Record_ScopeCompensationDecided:
		h.scopes = append(h.scopes, scope{path: r.ScopeCompensationDecided.GetScope(), decided: at})
	case *treatyv1.Record_BroadcastScheduled:
		h.broadcasts = append(h.broadcasts, broadcast{r.BroadcastScheduled, at})
	case *treatyv1.Record_WaitScheduled:
		w := h.waitAt(r.WaitScheduled.GetWait())
		w.scheduledAgain = w.intent != nil
		w.intent, w.scheduled = r.WaitScheduled, at
	case *treatyv1.Record_WaitEnded:
		w := h.waitAt(r.WaitEnded.GetWait())
		w.endedAgain = w.end != nil
		w.end, w.endedAt = r.WaitEnded, at
	case *treatyv1.Record_StepScheduled:
		s := &step{path: r.StepScheduled.GetStep(), intent: r.StepScheduled, scheduled: at}
		if before := h.byPath[s.path]; before != nil {
			before.scheduledAgain = true
			return
		}
		h.steps = append(h.steps, s)
		h.byPath[s.path] = s
	case *treatyv1.Record_StepDone:
		s := h.at(r.StepDone.GetStep())
		s.endedAgain = s.endedAgain || s.ended()
		s.done = at
	case *treatyv1.Record_StepRefused:
		s := h.at(r.StepRefused.GetStep())
		s.endedAgain = s.endedAgain || s.ended()
		s.refused, s.inDoubt = at, r.StepRefused.GetMayHaveRun()
	case *treatyv1.Record_StepUnknown:
		h.at(r.StepUnknown.GetStep()).unknown = true
	case *treatyv1.Record_CompensationDecided:
		h.decided, h.decidedAt = r.CompensationDecided, at
		h.decide()
		if h.reopens(r.CompensationDecided) {
			h.end, h.endTime = treatyv1.SagaState_SAGA_STATE_UNSPECIFIED, time.Time{}
		}
	case *treatyv1.Record_CompensationScheduled:
		if s := h.at(r.CompensationScheduled.GetStep()); s.undoScheduled.missing() {
			s.undoScheduled = at
		}
	case *treatyv1.Record_CompensationDone:
		h.at(r.CompensationDone.GetStep()).undoneAt = at
	case *treatyv1.Record_SagaRestored:
		h.restored = r.SagaRestored
	case *treatyv1.Record_SagaSuspended:
		h.waitsForPerson = strings.HasPrefix(r.SagaSuspended.GetReason().String(), "SUSPENSION_REASON_RESTORED")
	case *treatyv1.Record_SagaResumed:
		h.decide()
	case *treatyv1.Record_SagaSucceeded:
		h.finish(treatyv1.SagaState_SAGA_STATE_SUCCEEDED, at)
	case *treatyv1.Record_SagaCompensated:
		h.finish(treatyv1.SagaState_SAGA_STATE_COMPENSATED, at)
	}
}

// decide notes that a saga which waited for a person after a restore continues.
func (h *history) decide() {
	h.decidedByPerson = h.decidedByPerson || h.waitsForPerson
	h.waitsForPerson = false
}

// reopens reports whether a decision compensates a child that had succeeded, as its parent may.
func (h *history) reopens(decided *treatyv1.CompensationDecided) bool {
	return decided.GetCause() == treatyv1.CompensationCause_COMPENSATION_CAUSE_PARENT && h.started.GetParent() != nil
}

// restart drops the previous round, as the orchestrator does, except for the events that it took.
func (h *history) restart(r *treatyv1.SagaRestarted) {
	h.steps, h.scopes, h.waits, h.broadcasts = nil, nil, nil, nil
	clear(h.byPath)
	h.takenFrom = make(map[string]uint64)
	for _, t := range r.GetEventsTaken() {
		h.takenFrom[keyOf(t.GetKey())] = t.GetPosition()
	}
}

func keyOf(key *treatyv1.EventKey) string { return key.GetType() + " of " + key.GetSubject() }

// waitAt returns a wait. It may have no intent, which is reported.
func (h *history) waitAt(path string) *wait {
	for _, w := range h.waits {
		if w.path == path {
			return w
		}
	}
	w := &wait{path: path}
	h.waits = append(h.waits, w)
	return w
}

// holds reports whether a step is in the scope.
func (s scope) holds(inside *step) bool { return strings.HasPrefix(inside.path, s.path+".") }

// inFailedScope reports whether a step was compensated with its scope while the saga continued.
func (h *history) inFailedScope(s *step) bool {
	return slices.ContainsFunc(h.scopes, func(failed scope) bool { return failed.holds(s) })
}

// finish keeps the first end. Any record after it is a violation.
func (h *history) finish(state treatyv1.SagaState, at moment) {
	if h.end != treatyv1.SagaState_SAGA_STATE_UNSPECIFIED {
		return
	}
	h.end, h.endTime = state, at.time
	if h.actedUntil.IsZero() {
		h.actedUntil = at.time
	}
}

// at returns a step. It may have no intent, which checkJournal reports.
func (h *history) at(path string) *step {
	s := h.byPath[path]
	if s == nil {
		s = &step{path: path}
		h.steps = append(h.steps, s)
		h.byPath[path] = s
	}
	return s
}

func (s *step) ended() bool { return !s.done.missing() || !s.refused.missing() }

// mayHaveRun reports whether the step may have had an effect.
func (s *step) mayHaveRun() bool { return s.refused.missing() || s.inDoubt }

// settledByUndo reports whether nobody knows what became of the step, so that it is compensated even if its saga
// succeeds.
func (s *step) settledByUndo() bool {
	return s.done.missing() && (s.unknown || s.inDoubt) && s.compensatable()
}

// changes reports whether the command changes anything.
func (s *step) changes() bool { return s.intent.GetKind() != treatyv1.CommandKind_COMMAND_KIND_QUERY }

func (s *step) compensatable() bool { return s.intent.GetCompensation() != nil }

func (h *history) commandID(s *step) string { return wire.JoinStep(h.name, s.path) }

// follows reports whether a step runs after another one, rather than in parallel. A path alternates positions and
// branches: "2.1.4" is the fourth position in the first branch at position 2.
func (s *step) follows(other *step) bool {
	_, mine := roundOf(s.path)
	_, others := roundOf(other.path)
	for i := range min(len(mine), len(others)) {
		if mine[i] != others[i] {
			return i%2 == 0 && mine[i] > others[i]
		}
	}
	return false
}

// roundOf splits a path into its round and the rest: "r2.1.4" is in round 2.
func roundOf(path string) (round int, parts []int) {
	round = 1
	for i, text := range strings.Split(path, ".") {
		if rest, found := strings.CutPrefix(text, "r"); found && i == 0 {
			round, _ = strconv.Atoi(rest)
			continue
		}
		n, _ := strconv.Atoi(text)
		parts = append(parts, n)
	}
	return round, parts
}
