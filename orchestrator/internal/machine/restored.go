package machine

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
)

// ErrCatchingUp means that the saga was restored from a backup, and that its participants know commands whose answers
// its journal doesn't hold yet.
var ErrCatchingUp = errors.New("the saga hasn't caught up with its participants")

// Restored says what the participants of a saga know that its journal doesn't hold, after its store was restored from a
// backup. Apply it before anything else.
type Restored struct {
	// Record is what is recorded.
	Record *treatyv1.SagaRestored
}

// Stalled says that no event is stored that the saga waits for. It suspends a saga that is catching up and can't
// continue, and ends a wait whose time is over. Apply it when [Machine.Stalled] returns true.
type Stalled struct{}

func (Restored) input() {}
func (Stalled) input()  {}

// restoration is what a saga knows about its restoration from a backup.
type restoration struct {
	*treatyv1.SagaRestored

	// accepted means that a person has let the saga continue as it is.
	accepted bool
}

func commandPath(command *treatyv1.RestoredCommand) commandKey {
	return commandKey{command.GetStep(), command.GetCompensation()}
}

// commandKey identifies a command of a saga.
type commandKey struct {
	step         string
	compensation bool
}

// uncovered returns the commands of a restored saga that participants have answered and whose answers the journal
// doesn't hold.
func (s *Saga) uncovered() []*treatyv1.RestoredCommand {
	if s.restored == nil {
		return nil
	}
	var left []*treatyv1.RestoredCommand
	for _, command := range s.restored.GetCommands() {
		if !s.covers(command) {
			left = append(left, command)
		}
	}
	return left
}

// covers reports whether the journal holds the answer to a command. A command without effect that the journal doesn't
// know at all, refused or undone, may stay unknown: nothing has to be undone, and the participant refuses it again.
func (s *Saga) covers(command *treatyv1.RestoredCommand) bool {
	if RoundOf(command.GetStep()) < s.Round {
		return true
	}
	step := s.byPath[command.GetStep()]
	switch {
	case step == nil:
		return !command.GetHasEffect()
	case command.GetCompensation():
		return step.State == treatyv1.StepState_STEP_STATE_COMPENSATED
	default:
		return step.State != treatyv1.StepState_STEP_STATE_SCHEDULED
	}
}

// CatchingUp reports whether the saga was restored from a backup and its journal doesn't hold yet what its participants
// know.
func (s *Saga) CatchingUp() bool {
	return s.restored != nil && !s.restored.accepted && !s.Final() && len(s.uncovered()) > 0
}

// mustReconcile reports whether the saga was restored from a backup and has to act on what its participants know. It
// must be driven until it has.
func (s *Saga) mustReconcile() bool {
	return s.restored != nil && !s.restored.accepted && (s.restored.GetContradiction() != "" ||
		s.restored.GetCompensated() && s.CompensationDecided == nil || s.CatchingUp())
}

// KnownToParticipant reports whether a participant has answered a command of a restored saga whose answer the journal
// doesn't hold. Such a command is never given up, and may have been executed.
func (s *Saga) KnownToParticipant(step string, direction Direction) bool {
	key := commandKey{step, direction == Compensation}
	return slices.ContainsFunc(s.uncovered(), func(command *treatyv1.RestoredCommand) bool {
		return commandPath(command) == key
	})
}

// lostInWindow reports whether a time fell between the backup and the restoration, and no person has let the saga
// continue. What would have come until then may have been lost with the store.
func (s *Saga) lostInWindow(due time.Time) bool { return s.inWindow(due) && !s.restored.accepted }

// overruled reports whether a person has let the saga continue although a deadline fell between the backup and the
// restoration. Such a deadline has no effect any more.
func (s *Saga) overruled(deadline time.Time) bool { return s.inWindow(deadline) && s.restored.accepted }

func (s *Saga) inWindow(due time.Time) bool {
	return s.restored != nil && due.After(s.restored.GetBackupTime().AsTime()) &&
		!due.After(s.restored.GetRestoreTime().AsTime())
}

// parentMayHaveReply reports whether the saga is a restored child of another orchestrator's saga, which may have
// received a reply that was lost with the store. Such a child must not be compensated unless its parent or a person
// wants it.
func (s *Saga) parentMayHaveReply() bool {
	parent := s.Started.GetParent()
	return parent != nil && !parent.GetLocal() && s.restored != nil && !s.restored.accepted
}

// restoredForNextRound returns what the next round's journal must say about the restoration, since it replaces that of
// this round: what participants know about later rounds, and that another orchestrator may have the saga's reply. It
// is nil if there is nothing to say.
func (s *Saga) restoredForNextRound() *treatyv1.SagaRestored {
	if s.restored == nil {
		return nil
	}
	var later []*treatyv1.RestoredCommand
	for _, command := range s.restored.GetCommands() {
		if RoundOf(command.GetStep()) > s.Round {
			later = append(later, command)
		}
	}
	if len(later) == 0 && !s.parentMayHaveReply() {
		return nil
	}
	return &treatyv1.SagaRestored{
		BackupTime: s.restored.GetBackupTime(), RestoreTime: s.restored.GetRestoreTime(), Commands: later,
		Compensated: s.restored.GetCompensated(), Accepted: s.restored.accepted,
	}
}

// restore records what the participants know.
func (m *Machine) restore(in Restored) {
	if m.saga.Final() {
		return
	}
	m.record(&treatyv1.Record{Kind: &treatyv1.Record_SagaRestored{SagaRestored: in.Record}})
}

// reconcile does what follows from a restoration before the saga continues. It returns false if the saga mustn't
// continue.
func (m *Machine) reconcile() bool {
	restored := m.saga.restored
	switch {
	case restored == nil || restored.accepted:
		return true
	case restored.GetContradiction() != "":
		reason := restored.GetContradictionReason()
		if !isOfRestoration(reason) {
			reason = treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED
		}
		m.suspendRestored(reason, restored.GetContradiction())
		return false
	case restored.GetCompensated() && m.saga.CompensationDecided == nil:
		m.compensateAsBefore()
		return false
	default:
		return true
	}
}

// compensateAsBefore compensates a saga that was compensated after the backup. A pivot in flight wasn't executed, since
// a saga whose pivot was executed isn't compensated.
func (m *Machine) compensateAsBefore() {
	for _, step := range m.saga.Steps {
		if isPivotInFlight(step) {
			m.withdrawn = append(m.withdrawn, step)
		}
	}
	m.startCompensation(&treatyv1.CompensationDecided{
		Cause: treatyv1.CompensationCause_COMPENSATION_CAUSE_RESTORED,
		Failure: &treatyv1.Failure{
			Code: int32(codes.Aborted), Message: "the saga had been compensated before its store was restored",
		},
	})
}

// isOfRestoration reports whether a saga is suspended because its store was restored from a backup. A person who
// resumes it lets it continue as it is.
func isOfRestoration(reason treatyv1.SuspensionReason) bool {
	switch reason {
	case treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED,
		treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_UNDONE,
		treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_OVERDUE,
		treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_UNLISTED,
		treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_CHILD:
		return true
	default:
		return false
	}
}

// suspendRestored suspends a restored saga. The reason says what a person has to decide about, and is one of
// isOfRestoration.
func (m *Machine) suspendRestored(reason treatyv1.SuspensionReason, why string) {
	m.suspend(m.restoredSuspension(reason, why))
}

// restoredSuspension returns what suspendRestored records.
func (m *Machine) restoredSuspension(reason treatyv1.SuspensionReason, why string) *treatyv1.SagaSuspended {
	alternative := m.orCancel()
	if m.saga.checkCaughtUp() != nil {
		alternative = "; then undo by hand what only the participants know"
	}
	return &treatyv1.SagaSuspended{
		Reason: reason,
		Message: "the saga's store was restored from a backup: " + why +
			"; compare the journal with what the participants know, then retry to let the saga continue as it is, " +
			"without deadlines of that time" + alternative,
		Found: describeCommands(m.saga.uncovered()),
	}
}

// describeCommands lists commands for people.
func describeCommands(commands []*treatyv1.RestoredCommand) string {
	const most = 20
	var lines []string
	for i, command := range commands {
		if i == most {
			lines = append(lines, fmt.Sprintf("and %d more", len(commands)-most))
			break
		}
		direction := wire.Action
		if command.GetCompensation() {
			direction = wire.Compensation
		}
		lines = append(lines, fmt.Sprintf("%s %s (%s)", direction, command.GetStep(), command.GetMethod()))
	}
	return strings.Join(lines, "\n")
}

// heldBack reports whether a command must not be sent, since the saga is catching up and no participant knows it. A
// query changes nothing. A child saga of this orchestrator knows by itself whether it has to catch up.
func (m *Machine) heldBack(path string, call *Call, kind treatyv1.CommandKind) bool {
	if !m.saga.CatchingUp() || kind == treatyv1.CommandKind_COMMAND_KIND_QUERY ||
		m.config.Local != nil && m.config.Local(call.Method) {
		return false
	}
	for _, command := range m.saga.restored.GetCommands() {
		if commandPath(command) == (commandKey{path, false}) {
			digest := command.GetRequestDigest()
			return command.GetMethod() != call.Method ||
				digest != "" && digest != wire.RequestDigest(call.Method, call.Request)
		}
	}
	return true
}

// Stalled reports whether a restored saga can't continue on its own unless an event comes that is stored already: it is
// catching up, with nothing in flight and no timer that would let it continue, or the time of a wait for an event is
// over.
func (m *Machine) Stalled() bool { return m.stuckCatchingUp() || m.waitsForLostEvent() }

func (m *Machine) stuckCatchingUp() bool {
	if m.saga.State != treatyv1.SagaState_SAGA_STATE_RUNNING || m.program == nil || len(m.program.ready) > 0 ||
		!m.saga.CatchingUp() {
		return false
	}
	for _, step := range m.saga.Steps {
		if step.State == treatyv1.StepState_STEP_STATE_SCHEDULED ||
			step.State == treatyv1.StepState_STEP_STATE_COMPENSATING {
			return false
		}
	}
	for _, wait := range m.saga.Waits {
		// An event may come that lets the saga fail as before. What was undone isn't made good by a sleep, though: the
		// saga would go on over it later.
		if wait.Scheduled.GetDue() != nil && (m.saga.undone() == nil || len(wait.Scheduled.GetEvents()) > 0) {
			return false
		}
	}
	return len(m.discoveries()) == 0
}

// overdueForEvent reports whether the time of a wait for an event fell into the time that was lost, and a person has
// let the saga continue. The event comes first, if it was published again.
func (m *Machine) overdueForEvent(wait *OpenWait) bool {
	due := wait.Scheduled.GetDue()
	return due != nil && !due.AsTime().After(m.now) && len(wait.Scheduled.GetEvents()) > 0 &&
		m.saga.overruled(due.AsTime())
}

func (m *Machine) waitsForLostEvent() bool {
	return m.saga.State == treatyv1.SagaState_SAGA_STATE_RUNNING && m.program != nil && len(m.program.ready) == 0 &&
		slices.ContainsFunc(m.saga.Waits, m.overdueForEvent)
}

// stalled suspends a saga that can't catch up, or ends a wait for an event that isn't stored.
func (m *Machine) stalled() {
	switch {
	case m.stuckCatchingUp():
		m.suspendStuck()
	case m.waitsForLostEvent():
		m.noEvent = true
		m.proceed()
		m.noEvent = false
		m.effects = m.PendingEffects()
	}
}

func (m *Machine) suspendStuck() {
	reason := treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED
	why := "the saga waits for an event that isn't stored, but participants have answered later commands"
	switch undone := m.saga.undone(); {
	case undone != nil && !m.mustCatchUp():
		reason = treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_UNDONE
		why = fmt.Sprintf("step %s (%s) was compensated since the backup, but now the saga doesn't fail as it did then",
			undone.Path(), undone.Scheduled.GetMethod())
	case m.program.main.ended:
		why = "the saga's code has ended, but participants have answered more commands"
	case slices.ContainsFunc(m.program.waiting, func(t *Thread) bool {
		_, call := t.op.(*Call)
		return call && !t.scheduled
	}):
		why = "the saga would now send a command that no participant has received, instead of those that they have " +
			"answered"
	}
	m.suspendRestored(reason, why)
}

// checkCaughtUp returns an error if a restored saga must not be compensated yet: what its participants know must be in
// the journal first, since only the journal says how it is undone.
func (s *Saga) checkCaughtUp() error {
	if s.restored != nil && s.restored.GetCompensated() {
		return nil
	}
	for _, command := range s.uncovered() {
		step := s.byPath[command.GetStep()]
		switch {
		case command.GetCompensation() || s.restored.accepted:
		case s.Suspension == nil, step == nil:
			return fmt.Errorf("%w: step %s (%s)", ErrCatchingUp, command.GetStep(), command.GetMethod())
		}
	}
	return nil
}

// undone returns a step that the journal has as done and that was compensated since the backup, or nil.
func (s *Saga) undone() *Step {
	for _, command := range s.uncovered() {
		if step := s.byPath[command.GetStep()]; command.GetCompensation() &&
			step.State == treatyv1.StepState_STEP_STATE_DONE {
			return step
		}
	}
	return nil
}

// mustCatchUp reports whether participants have answered actions of this round that the journal doesn't hold. Those of
// later rounds come after a restart.
func (m *Machine) mustCatchUp() bool {
	if !m.saga.CatchingUp() {
		return false
	}
	return slices.ContainsFunc(m.saga.uncovered(), func(command *treatyv1.RestoredCommand) bool {
		return !command.GetCompensation() &&
			(RoundOf(command.GetStep()) == m.saga.Round || m.program == nil || m.program.restart == nil)
	})
}

// RoundOf returns the round in a step's path: 2 for "r2.1", and 1 for a path without one.
func RoundOf(path string) uint32 {
	number, is := strings.CutPrefix(path, "r")
	if !is {
		return 1
	}
	number, _, _ = strings.Cut(number, ".")
	round, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return 1
	}
	return uint32(round)
}
