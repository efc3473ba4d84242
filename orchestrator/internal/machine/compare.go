package machine

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// compare compares a record that is about to be applied with what the code does. It notes the first difference as the
// machine's mismatch.
func (m *Machine) compare(record *treatyv1.Record) {
	p := m.program
	if p == nil || p.versionMismatch != nil || p.stuck != nil || p.misused {
		return // the next Wake suspends the saga with a better reason
	}
	switch r := record.GetKind().(type) {
	case *treatyv1.Record_StepScheduled:
		m.compareStep(r.StepScheduled)
	case *treatyv1.Record_WaitScheduled:
		m.compareWait(r.WaitScheduled)
	case *treatyv1.Record_BroadcastScheduled:
		m.compareBroadcast(r.BroadcastScheduled)
	case *treatyv1.Record_WaitEnded:
		m.compareWaitEnded(r.WaitEnded)
	case *treatyv1.Record_CompensationScheduled:
		m.compareCompensation(r.CompensationScheduled.GetStep())
	case *treatyv1.Record_ScopeOpened:
		m.compareScope(r.ScopeOpened.GetScope(), "a scope with a deadline at position ",
			func(s *scope) bool { return !s.opened && s.branches.Within > 0 })
	case *treatyv1.Record_ScopeExpired:
		m.compareScope(r.ScopeExpired.GetScope(), "an open scope with a deadline at position ",
			func(s *scope) bool { return s.opened && !s.ended })
	case *treatyv1.Record_ScopeCompensationDecided:
		m.compareScope(r.ScopeCompensationDecided.GetScope(), "a failed scope at position ",
			func(s *scope) bool { return s.ended && s.branches.Compensate })
	}
}

func (m *Machine) compareStep(scheduled *treatyv1.StepScheduled) {
	path := scheduled.GetStep()
	expected := fmt.Sprintf("step %s %s", path, scheduled.GetMethod())
	t := m.program.unscheduled(path)
	if t == nil {
		m.setMismatch(path, expected, m.program.describe())
		return
	}
	call, is := t.op.(*Call)
	switch {
	case !is || call.Method != scheduled.GetMethod() || call.Participant != scheduled.GetParticipant():
		m.setMismatch(path, expected, t.describe())
	case !bytes.Equal(call.Request, scheduled.GetRequest()):
		if field, differs := requestDiffers(call, scheduled.GetRequest()); differs {
			m.setMismatch(path, expected+" with the journaled "+field, t.describe()+" with another "+field)
		}
	}
}

// requestDiffers reports whether a journaled request whose bytes differ is another request, and in which field.
func requestDiffers(call *Call, journaled []byte) (field string, differs bool) {
	if call.Differs == nil {
		return "request", true
	}
	field, differs = call.Differs(journaled)
	if field == "" {
		return "request", differs
	}
	return "field " + field, differs
}

// compareWait allows another duration. It doesn't allow a wait to get or lose its end: the code would wait forever, or
// receive a timeout that it doesn't expect.
func (m *Machine) compareWait(scheduled *treatyv1.WaitScheduled) {
	path, ends := scheduled.GetWait(), scheduled.GetDue() != nil
	expected := "wait " + describeWait(path, scheduled.GetEvents(), ends)
	t := m.program.unscheduled(path)
	if t == nil {
		m.setMismatch(path, expected, m.program.describe())
		return
	}
	wait, is := t.op.(*Wait)
	if !is || !slices.EqualFunc(wait.Events, scheduled.GetEvents(), sameKey) || wait.Until.IsZero() == ends {
		m.setMismatch(path, expected, t.describe())
	}
}

func sameKey(a, b *treatyv1.EventKey) bool {
	return a.GetType() == b.GetType() && a.GetSubject() == b.GetSubject()
}

func (m *Machine) compareBroadcast(scheduled *treatyv1.BroadcastScheduled) {
	path := scheduled.GetBroadcast()
	expected := fmt.Sprintf("broadcast %s %s", path, scheduled.GetMethod())
	t := m.program.unscheduled(path)
	if t == nil {
		m.setMismatch(path, expected, m.program.describe())
		return
	}
	if broadcast, is := t.op.(*Broadcast); !is || broadcast.Method != scheduled.GetMethod() {
		m.setMismatch(path, expected, t.describe())
	}
}

// compareWaitEnded ensures that no wait is lost: the code must stop exactly those waits that the journal stops.
func (m *Machine) compareWaitEnded(ended *treatyv1.WaitEnded) {
	path := ended.GetWait()
	stopped := slices.Contains(m.program.stoppedWaits, path)
	switch {
	case ended.GetStopped() != nil && !stopped:
		m.setMismatch(path, "the end of wait "+path+", whose branch was stopped", "a branch that continues")
	case ended.GetStopped() == nil && stopped:
		m.setMismatch(path, "wait "+path, "a branch that was stopped")
	}
}

// compareCompensation checks that a compensation without a decision for the whole saga belongs to a failed scope, or
// comes after the end of the code.
func (m *Machine) compareCompensation(path string) {
	p := m.program
	if m.saga.CompensationDecided != nil || p.main.ended {
		return
	}
	for _, s := range p.scopes {
		if s.decided && strings.HasPrefix(path, s.prefix()) {
			return
		}
	}
	m.setMismatch(path, "the end of the code, after which step "+path+" is compensated", p.describe())
}

func (m *Machine) compareScope(path, expected string, fits func(*scope) bool) {
	if s := m.program.scopeOf(path); s == nil || !fits(s) {
		m.setMismatch(path, expected+path, m.program.describe())
	}
}

// mismatchCauses says how code comes to differ from its journal, and what to use instead.
const mismatchCauses = "usual causes are a change of the code without saga.Version, time.Now instead of saga.Now, " +
	"random numbers and ids that aren't from saga.Rand and saga.NewID, and the order of a map whose keys aren't sorted"

func (m *Machine) setMismatch(path, expected, found string) {
	m.mismatch = &treatyv1.SagaSuspended{
		Reason: treatyv1.SuspensionReason_SUSPENSION_REASON_MISMATCH,
		Message: fmt.Sprintf("the saga's code doesn't match its journal at step %s: expected %s, found %s; "+
			mismatchCauses+"; run the code that wrote the journal and resume", path, expected, found),
		Step: path, Expected: expected, Found: found,
	}
	m.stopCode()
}

// suspendForMismatch suspends a saga whose code doesn't match its journal. Whether it can be cancelled was not known
// when the mismatch was found: the journal had more records.
func (m *Machine) suspendForMismatch(found *treatyv1.SagaSuspended) {
	m.suspend(&treatyv1.SagaSuspended{
		Reason: found.GetReason(), Message: found.GetMessage() + m.orCancel(), Step: found.GetStep(),
		Expected: found.GetExpected(), Found: found.GetFound(),
	})
}

// describe says what the code does, for a mismatch.
func (p *program) describe() string {
	switch {
	case p.panicked != "":
		return "the code panicked: " + p.panicked
	case p.broken != "":
		return "the code broke a rule: " + p.broken
	case p.main.ended && p.restart != nil:
		return "the code restarted the saga"
	case p.main.ended && p.main.end.failure != nil:
		return "the code returned the error: " + p.main.end.failure.GetMessage()
	case p.main.ended:
		return "the code returned its reply"
	}
	for _, t := range p.waiting {
		if !t.scheduled {
			return t.describe()
		}
	}
	return "the code waits for another step"
}

func (t *Thread) describe() string {
	switch op := t.op.(type) {
	case *Call:
		if op.Participant != "" {
			return fmt.Sprintf("step %s %s at %s", t.opPath, op.Method, op.Participant)
		}
		return fmt.Sprintf("step %s %s", t.opPath, op.Method)
	case *Wait:
		return "wait " + describeWait(t.opPath, op.Events, !op.Until.IsZero())
	case *Broadcast:
		return fmt.Sprintf("broadcast %s %s", t.opPath, op.Method)
	}
	return "the code waits for another step"
}

func describeWait(path string, keys []*treatyv1.EventKey, ends bool) string {
	if len(keys) == 0 {
		return path + " until a time"
	}
	events := make([]string, len(keys))
	for i, key := range keys {
		events[i] = key.GetType() + " of " + key.GetSubject()
	}
	described := path + " for " + strings.Join(events, " or ")
	if !ends {
		return described
	}
	return described + " with a timeout"
}
