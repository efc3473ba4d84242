package machine

import (
	"slices"
	"strings"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/coroutine"
)

// Config describes the saga of a Machine.
type Config struct {
	// ID is the last part of the saga's name.
	ID string

	// Code is the code of the saga's definition. It is nil if this orchestrator has none; such a saga can only be
	// compensated.
	Code Code

	// Command returns the command with the name of a method. Saga code can send only these.
	Command func(method string) (*contract.Command, bool)

	// Event returns the event with the full name of a message. Saga code can await only these. If Event is nil, every
	// message is an event.
	Event func(name string) (*contract.EventType, bool)

	// Local reports whether a method starts a child saga of this orchestrator. If it is nil, no method does.
	Local func(method string) bool

	// Publishable returns why the reply of a method, which is an event, can't be published. It returns nil if it can,
	// and if the reply isn't an event. If Publishable is nil, every reply can be published.
	Publishable func(method string, reply []byte) error

	// Withdraw reports whether the action of a step was certainly never sent, and if so, holds it back until the turn
	// in the making is stored or has failed. If Withdraw is nil, every action may have been sent.
	Withdraw func(step string) bool

	// Skipped is how many turns of earlier rounds are no longer in the journal.
	Skipped uint64

	// Environment is passed on to the code; see Thread.Environment.
	Environment any

	// Coroutines run the code. Whoever has them can interrupt code that blocks; then the saga is suspended. If
	// Coroutines is nil, nobody can.
	Coroutines *coroutine.Group
}

// Machine runs one saga. It is not safe for concurrent use. Close it when it is no longer used, because saga code may
// be waiting in it.
type Machine struct {
	config  Config
	saga    *Saga
	program *program // nil if there is no code, or if it no longer runs

	now         time.Time
	replaying   bool
	mismatch    *treatyv1.SagaSuspended // found in a replay, not yet recorded
	unversioned map[string]bool         // changes that the code passed where the journal has no version of them

	// The turn in the making.

	turn      *turnInMaking // nil without records
	effects   []Effect
	turnBytes int // size of the requests
	withdrawn []*Step

	// noEvent says that no event is stored that the saga waits for.
	noEvent   bool
	scheduled []*Step // the steps whose action or compensation was scheduled
	newRound  bool
	again     bool
}

// Output is the result of an input.
type Output struct {
	// Turn must be committed before anything else happens. It is nil if there is nothing to record. If the commit
	// fails, its outcome is unknown: close the machine and load the saga again.
	Turn *treatyv1.Turn

	// Effects must be performed after the commit. Ignore those that are already being performed.
	Effects []Effect

	// Reload means that after the commit, the machine must be closed, and the saga loaded again and woken: its code
	// runs again from the start.
	Reload bool

	// WakeAgain means that after the commit, the saga must be woken at once.
	WakeAgain bool

	// NewRound means that the turn is the first one of a new round. The turns before it are no longer needed.
	NewRound bool
}

// New returns the machine of a saga with an empty journal.
func New(config Config) *Machine {
	if config.Coroutines == nil {
		config.Coroutines = new(coroutine.Group)
	}
	return &Machine{config: config, saga: &Saga{ID: config.ID, Turns: config.Skipped}}
}

// Saga returns the saga's state, including the turn of the latest Apply.
func (m *Machine) Saga() *Saga { return m.saga }

// Close stops the saga's code. The machine must not be used afterwards, but its Saga stays readable.
func (m *Machine) Close() {
	m.setReplaying(true) // operations of deferred functions don't count
	m.stopCode()
}

func (m *Machine) setReplaying(replaying bool) {
	m.replaying = replaying
	m.config.Coroutines.SetQuiet(replaying)
}

// Replay applies a stored turn and runs the saga's code up to it. It returns an error that wraps [ErrJournal] if the
// turn can't be read. Code that doesn't match the journal isn't an error: Mismatch returns the difference, and the next
// Wake suspends the saga.
func (m *Machine) Replay(turn *treatyv1.Turn) error {
	m.now = turn.GetTime().AsTime()
	m.setReplaying(true)
	defer m.setReplaying(false)
	m.saga.readVersions(turn)
	for _, record := range turn.GetRecords() {
		m.compare(record)
		if err := m.saga.fold(m.now, record); err != nil {
			return err
		}
		if record.GetSagaRestarted() != nil {
			m.saga.readVersions(turn) // the fold dropped them with the round before
		}
		m.applyToCode(record)
	}
	if m.program != nil {
		m.program.abandoned = nil // PendingEffects returns them
	}
	m.saga.endTurn(m.now)
	return nil
}

// Mismatch returns how the code differs from the journal that was replayed. It returns nil if the code matches, and if
// the saga has ended or compensates, which needs no code. The next Wake records a mismatch.
func (m *Machine) Mismatch() *treatyv1.SagaSuspended {
	if m.saga.CompensationDecided != nil || m.saga.Final() {
		return nil
	}
	if m.mismatch == nil && m.program != nil {
		return m.program.versionMismatch
	}
	return m.mismatch
}

// Panicked returns the value with which the code panicked, and where. It is empty if the code didn't panic.
func (m *Machine) Panicked() string {
	if m.program == nil {
		return ""
	}
	return m.program.panicked
}

// Stuck returns where the code stands if it was left behind because it blocks, e.g. "at a.go:42 (chan receive)". It is
// empty if it wasn't.
func (m *Machine) Stuck() string {
	if m.program == nil || m.program.stuck == nil {
		return ""
	}
	return m.program.stuck.describe()
}

// Apply applies an input at a time. If it returns an error, nothing was recorded. The error wraps one of
// [ErrPastPivot], [ErrPivotInFlight], [ErrEnded], [ErrChanged], [ErrNotSuspended], [ErrDecisionUnfit],
// [ErrStepNotFound], [ErrReplyTooLarge] and [ErrStepEnded].
func (m *Machine) Apply(now time.Time, in Input) (Output, error) {
	// The times of turns never decrease, whatever the clock does. The journal keeps microseconds.
	m.now = now.UTC().Truncate(time.Microsecond)
	if m.now.Before(m.saga.UpdateTime) {
		m.now = m.saga.UpdateTime
	}
	m.turn, m.effects, m.turnBytes, m.newRound, m.again = nil, nil, 0, false, false
	m.withdrawn, m.scheduled = nil, m.scheduled[:0]
	reload, err := m.apply(in)
	if err != nil || m.turn == nil {
		return Output{Effects: m.effects}, err
	}
	if m.program != nil {
		// The code may have run although the saga doesn't continue for now. What it set must be recorded: a replay
		// takes a missing version for the old path.
		m.flush()
	}
	m.saga.endTurn(m.now)
	turn := m.turn.at(m.now)
	return Output{Turn: turn, Effects: m.effects, Reload: reload, WakeAgain: m.again, NewRound: m.newRound}, nil
}

func (m *Machine) apply(in Input) (reload bool, err error) {
	switch in := in.(type) {
	case Start:
		m.start(in)
	case CommandEnded:
		m.commandEnded(in)
	case Cancel:
		err = m.cancel(in)
	case Resume:
		reload, err = m.resume(in)
	case Wake:
		m.wake()
	case EventReceived:
		m.eventReceived(in)
	case Discovered:
		m.discovered(in)
	case CommandCompleted:
		reload, err = m.commandCompleted(in)
	case CompensateForParent:
		err = m.compensateForParent(nil)
	case TurnUnwritable:
		m.unwritable(in)
	case KeyMissing:
		m.keyMissing(in)
	case Restored:
		m.restore(in)
	case Stalled:
		m.stalled()
	case Misused:
		m.misused(in)
	}
	return reload, err
}

func (m *Machine) start(in Start) {
	if in.Compensated {
		// Its code never runs.
		code := m.config.Code
		m.config.Code = nil
		m.recordStarted(in)
		m.config.Code = code
		m.compensateNow(in.Decision)
		return
	}
	m.recordStarted(in)
	m.proceed()
}

func (m *Machine) recordStarted(in Start) {
	m.record(recordOfStart(in.Started))
	if in.Restored != nil {
		m.record(&treatyv1.Record{Kind: &treatyv1.Record_SagaRestored{SagaRestored: in.Restored}})
	}
}

func (m *Machine) wake() {
	switch {
	case m.saga.Final():
		return
	case m.saga.State == treatyv1.SagaState_SAGA_STATE_RUNNING && !m.reconcile():
	case m.deadlinePassed():
		m.compensateForDeadline()
	default:
		m.proceed()
	}
	m.effects = m.PendingEffects()
}

func (m *Machine) unwritable(in TurnUnwritable) {
	if m.saga.Final() || m.saga.Suspension != nil {
		return
	}
	m.suspend(&treatyv1.SagaSuspended{
		Reason:  treatyv1.SuspensionReason_SUSPENSION_REASON_RULE,
		Message: in.Message + "; fix the code and resume" + m.orCancel(),
	})
}

func (m *Machine) keyMissing(in KeyMissing) {
	if m.saga.State != treatyv1.SagaState_SAGA_STATE_RUNNING {
		return
	}
	m.suspend(&treatyv1.SagaSuspended{
		Reason: treatyv1.SuspensionReason_SUSPENSION_REASON_KEY_MISSING, Message: in.Message,
	})
}

// Due returns when the saga must be woken. Zero means that it needs no timer.
func (m *Machine) Due() time.Time {
	due := m.deadline()
	if m.saga.State != treatyv1.SagaState_SAGA_STATE_RUNNING || m.program == nil {
		return due
	}
	for _, wait := range m.saga.Waits {
		if d := wait.Scheduled.GetDue(); d != nil {
			due = earliest(due, d.AsTime())
		}
	}
	for _, s := range m.program.scopes {
		due = earliest(due, m.scopeDue(s))
	}
	return due
}

// deadline returns when the saga must be cancelled. It is zero if the saga has no deadline or can't be cancelled.
func (m *Machine) deadline() time.Time {
	deadline := m.saga.deadline()
	if deadline.IsZero() || m.saga.overruled(deadline) || m.saga.CatchingUp() || m.saga.Final() ||
		m.saga.CompensationDecided != nil || m.saga.Irreversible() || m.saga.compensatingUnknown() {
		return time.Time{}
	}
	return deadline
}

func (m *Machine) deadlinePassed() bool {
	due := m.deadline()
	return !due.IsZero() && !due.After(m.now) && m.withdrawPivots(m.saga.Steps) == nil
}

// DeadlineOf returns when the action of a step must no longer be sent if it wasn't sent before: when its saga is
// cancelled or a scope around it is stopped. It is zero if there is no such time.
func (m *Machine) DeadlineOf(step string) time.Time {
	due := m.deadline()
	if m.program != nil {
		for _, s := range m.program.scopes {
			if strings.HasPrefix(step, s.prefix()) {
				due = earliest(due, m.scopeDue(s))
			}
		}
	}
	return due
}

// earliest returns the earlier of two times. A zero time is no time.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// Waiting reports whether the saga only waits for timers and events, so that it can be evicted.
func (m *Machine) Waiting() bool {
	if m.saga.State != treatyv1.SagaState_SAGA_STATE_RUNNING || len(m.saga.Waits) == 0 || m.program == nil ||
		len(m.program.ready) > 0 || m.saga.mustReconcile() || m.waitsForLostEvent() {
		return false
	}
	for _, step := range m.saga.Steps {
		if step.State == treatyv1.StepState_STEP_STATE_SCHEDULED ||
			step.State == treatyv1.StepState_STEP_STATE_COMPENSATING {
			return false
		}
	}
	for _, t := range m.program.waiting {
		if !t.scheduled {
			return false
		}
	}
	return true
}

// PendingEffects returns the effects of the journal whose results it doesn't have. A suspended saga has none.
func (m *Machine) PendingEffects() []Effect {
	if m.saga.Suspension != nil {
		return nil
	}
	var effects []Effect
	for _, step := range m.saga.Steps {
		switch step.State {
		case treatyv1.StepState_STEP_STATE_SCHEDULED:
			effects = append(effects, Effect{
				Step: step, Direction: Action, Abandon: m.saga.CompensationDecided != nil || step.abandoned,
				Fresh: slices.Contains(m.scheduled, step),
			})
		case treatyv1.StepState_STEP_STATE_COMPENSATING:
			effects = append(effects, Effect{
				Step: step, Direction: Compensation, Fresh: slices.Contains(m.scheduled, step),
			})
		}
	}
	return append(effects, m.discoveries()...)
}

// discoveries returns an effect for each broadcast whose participants aren't known yet.
func (m *Machine) discoveries() []Effect {
	var effects []Effect
	if m.program == nil || m.saga.State != treatyv1.SagaState_SAGA_STATE_RUNNING {
		return nil
	}
	for _, t := range m.program.waiting {
		if op, is := t.op.(*Broadcast); is && !t.scheduled {
			effects = append(effects, Effect{Discover: &Discover{Path: t.opPath, Method: op.Method}})
		}
	}
	return effects
}

// record adds a record to the turn in the making, and applies it as Replay does.
func (m *Machine) record(record *treatyv1.Record) {
	if err := m.saga.fold(m.now, record); err != nil {
		// This is a bug in the machine. The saga is suspended while its journal is still valid.
		m.mismatch = &treatyv1.SagaSuspended{
			Reason: treatyv1.SuspensionReason_SUSPENSION_REASON_MISMATCH, Message: err.Error(),
		}
		return
	}
	if m.turn == nil {
		m.turn = new(turnInMaking)
	}
	m.turn.add(record)
	m.applyToCode(record)
}

// proceed does what is due after a record.
func (m *Machine) proceed() {
	if m.saga.Suspension == nil && !m.saga.Final() && !m.reconcile() {
		return
	}
	switch m.saga.State {
	case treatyv1.SagaState_SAGA_STATE_RUNNING:
		m.forward()
	case treatyv1.SagaState_SAGA_STATE_COMPENSATING:
		m.compensate()
	}
}

// suspend stops the saga until an operator decides.
func (m *Machine) suspend(suspended *treatyv1.SagaSuspended) {
	for _, text := range []*string{&suspended.Message, &suspended.Expected, &suspended.Found} {
		*text = strings.ToValidUTF8(*text, "\uFFFD") // it may contain text from the code
	}
	m.record(&treatyv1.Record{Kind: &treatyv1.Record_SagaSuspended{SagaSuspended: suspended}})
}
