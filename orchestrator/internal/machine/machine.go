package machine

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
)

// Config is what a Machine needs beside the journal.
type Config struct {
	// ID is the last part of the saga's name.
	ID string

	// Code is the code of the saga's definition; nil when there is none here. Undoing needs none.
	Code Code

	// Command finds a command by its method; saga code can ask for no others.
	Command func(method string) (*contract.Command, bool)

	// Event says whether a message, named in full, is an event; saga code can await no others. Nil: every one is.
	Event func(name string) bool

	// Skipped is how many turns of the journal are no longer kept, since the saga was restarted.
	Skipped uint64

	// Environment is handed to the code as it is.
	Environment any
}

// Machine runs one saga. It is not safe for concurrent use. Close it when it is dropped: saga code may be waiting in it.
type Machine struct {
	config  Config
	saga    *Saga
	program *program // nil when there is no code, or none to be run any more

	now       time.Time
	replaying bool
	mismatch  *treatyv1.SagaSuspended // found while replaying, not yet recorded
	unversioned    map[string]bool         // changes that the code asked about where the journal knows no version

	// Of the turn in the making.

	records   []*treatyv1.Record
	effects   []Effect
	turnBytes int
	newRound  bool
	again     bool
}

// Output is what an input leads to.
type Output struct {
	// Turn is to be committed before anything else happens; nil when there is nothing to record. When the commit fails, its
	// outcome is unknown: close the machine and load the saga again.
	Turn *treatyv1.Turn

	// Effects are to be performed after the commit. One that is under way already isn't to be started again.
	Effects []Effect

	// Reload says that after the commit the machine is to be closed, the saga loaded again and woken: its code runs again
	// from the start.
	Reload bool

	// Again says that after the commit the saga is to be woken.
	Again bool

	// First says that the journal begins anew with the turn: the turns before it are no longer needed.
	First bool
}

// New returns the machine of a saga whose journal is still empty.
func New(config Config) *Machine {
	return &Machine{config: config, saga: &Saga{ID: config.ID, Turns: config.Skipped}}
}

// Saga is what the journal says so far, with what the latest Apply added.
func (m *Machine) Saga() *Saga { return m.saga }

// Close ends the saga's coroutine. The machine is of no use afterwards; its Saga stays readable.
func (m *Machine) Close() {
	m.replaying = true // what the code says on its way out isn't new: it will run again
	m.stopCode()
}

// Replay reads one stored turn and runs the saga's code as far. It returns ErrJournal when the turn can't be read. Code that does
// something else than the journal says is no error: the next Wake suspends the saga.
func (m *Machine) Replay(turn *treatyv1.Turn) error {
	m.now, m.replaying = turn.GetTime().AsTime(), true
	defer func() { m.replaying = false }()
	m.saga.readVersions(turn)
	for _, record := range turn.GetRecords() {
		m.compare(record)
		if err := m.saga.fold(m.now, record); err != nil {
			return err
		}
		if record.GetSagaRestarted() != nil {
			m.saga.readVersions(turn) // the round before had others
		}
		m.applyToCode(record)
	}
	if m.program != nil {
		m.program.abandoned = nil // Outstanding tells of them
	}
	m.saga.endTurn(m.now)
	return nil
}

// chooseVersion answers Thread.Version.
func (m *Machine) chooseVersion(change string, latest int32) int32 {
	if chosen, known := m.chosenVersion(change); known {
		if chosen > latest {
			m.program.versionMismatch = &treatyv1.SagaSuspended{
				Reason: treatyv1.SuspensionReason_SUSPENSION_REASON_MISMATCH,
				Message: fmt.Sprintf("the saga goes by version %d of the change %q, and the code knows none above %d; run the code that wrote the journal, or a newer one, and resume",
					chosen, change, latest),
				Expected: fmt.Sprintf("version %d of the change %q", chosen, change), Found: fmt.Sprintf("version %d", latest),
			}
		}
		return chosen
	}
	if m.unversioned[change] {
		return 0
	}
	if m.replaying {
		if m.unversioned == nil {
			m.unversioned = make(map[string]bool)
		}
		m.unversioned[change] = true
		return 0
	}
	m.program.versions = append(m.program.versions, &treatyv1.VersionChosen{Change: change, Version: latest})
	return latest
}

// chosenVersion is the version that the saga goes by, also when it isn't recorded yet.
func (m *Machine) chosenVersion(change string) (int32, bool) {
	for _, chosen := range m.program.versions {
		if chosen.GetChange() == change {
			return chosen.GetVersion(), true
		}
	}
	version, known := m.saga.versions[change]
	return version, known
}

// Mismatch says how the code doesn't match the journal that was replayed; nil when it does, and when the saga has ended or is undone, which
// needs no code. The next Wake records it.
func (m *Machine) Mismatch() *treatyv1.SagaSuspended {
	if m.saga.Decided != nil || m.saga.Final() {
		return nil
	}
	if m.mismatch == nil && m.program != nil {
		return m.program.versionMismatch
	}
	return m.mismatch
}

// Panicked says with what the code panicked, and where; empty when it didn't.
func (m *Machine) Panicked() string {
	if m.program == nil {
		return ""
	}
	return m.program.panicked
}

// Apply takes an input at the time now. The errors are ErrPastPivot, ErrPivotUnderWay, ErrFinal, ErrNotSuspended, ErrUnfit, ErrNoStep and
// ErrStepOver; nothing is recorded then.
func (m *Machine) Apply(now time.Time, in Input) (Output, error) {
	// A turn's time never goes back, whatever the clock does; the journal keeps no more than microseconds.
	m.now = now.UTC().Truncate(time.Microsecond)
	if m.now.Before(m.saga.UpdateTime) {
		m.now = m.saga.UpdateTime
	}
	m.records, m.effects, m.turnBytes, m.newRound, m.again = nil, nil, 0, false, false
	var reload bool
	var err error
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
		err = m.commandCompleted(in)
	case CompensateForParent:
		err = m.compensateForParent()
	case Unwritable:
		if !m.saga.Final() && m.saga.Suspension == nil {
			m.suspend(&treatyv1.SagaSuspended{
				Reason:  treatyv1.SuspensionReason_SUSPENSION_REASON_RULE,
				Message: "what follows can't be stored: " + in.Message + "; mend the code and resume" + m.orCancel(),
			})
		}
	}
	if err != nil || len(m.records) == 0 {
		return Output{Effects: m.effects}, err
	}
	if m.program != nil {
		// The code may have run although the saga goes no further for now. What it said then must not be lost: a version that
		// isn't recorded is taken for an old path in every replay.
		m.flush()
	}
	m.saga.endTurn(m.now)
	turn := &treatyv1.Turn{Time: timestamppb.New(m.now), Records: m.records}
	return Output{Turn: turn, Effects: m.effects, Reload: reload, Again: m.again, First: m.newRound}, nil
}

func (m *Machine) start(in Start) {
	if in.Compensated {
		// Its code is never run.
		code := m.config.Code
		m.config.Code = nil
		m.record(&treatyv1.Record{Kind: &treatyv1.Record_SagaStarted{SagaStarted: in.Started}})
		m.config.Code = code
		_ = m.compensateForParent() // nothing stands against it
		return
	}
	m.record(&treatyv1.Record{Kind: &treatyv1.Record_SagaStarted{SagaStarted: in.Started}})
	m.proceed()
}

// Due is when the saga wants to be woken; zero means by no timer.
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

// deadline is when the saga is cancelled; zero when it isn't, or can't be.
func (m *Machine) deadline() time.Time {
	deadline := m.saga.deadline()
	if deadline.IsZero() || m.saga.Final() || m.saga.Decided != nil || m.saga.pointOfNoReturn() != nil || m.saga.compensatingUnknown() {
		return time.Time{}
	}
	return deadline
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// Waiting says whether the saga only waits for moments and events, so that nothing is to be done about it until one comes.
func (m *Machine) Waiting() bool {
	if m.saga.State != treatyv1.SagaState_SAGA_STATE_RUNNING || len(m.saga.Waits) == 0 || m.program == nil || len(m.program.ready) > 0 {
		return false
	}
	for _, step := range m.saga.Steps {
		if step.State == treatyv1.StepState_STEP_STATE_SCHEDULED || step.State == treatyv1.StepState_STEP_STATE_COMPENSATING {
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

// PendingEffects returns the effects that the journal intends and whose end it doesn't hold. A suspended saga has none.
func (m *Machine) PendingEffects() []Effect {
	if m.saga.Suspension != nil {
		return nil
	}
	var effects []Effect
	for _, step := range m.saga.Steps {
		switch step.State {
		case treatyv1.StepState_STEP_STATE_SCHEDULED:
			effects = append(effects, Effect{Step: step, Direction: Action, Abandon: m.saga.Decided != nil || step.abandoned})
		case treatyv1.StepState_STEP_STATE_COMPENSATING:
			effects = append(effects, Effect{Step: step, Direction: Compensation})
		}
	}
	return append(effects, m.discoveries()...)
}

// discoveries are the broadcasts of which it isn't known yet to whom they go.
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

// record adds to the turn in the making: the same steps as reading a stored record.
func (m *Machine) record(record *treatyv1.Record) {
	if err := m.saga.fold(m.now, record); err != nil {
		// The machine only records what fits; a record that doesn't is a defect in it. It shows in the scenarios, and the saga
		// is stopped where its journal still is whole.
		m.mismatch = &treatyv1.SagaSuspended{Reason: treatyv1.SuspensionReason_SUSPENSION_REASON_MISMATCH, Message: err.Error()}
		return
	}
	m.records = append(m.records, record)
	m.applyToCode(record)
}

// proceed does what is due after a record.
func (m *Machine) proceed() {
	switch m.saga.State {
	case treatyv1.SagaState_SAGA_STATE_RUNNING:
		m.forward()
	case treatyv1.SagaState_SAGA_STATE_COMPENSATING:
		m.compensate()
	}
}

func (m *Machine) wake() {
	switch {
	case m.saga.Final():
		return
	case m.deadlinePassed():
		m.compensateForDeadline()
	default:
		m.proceed()
	}
	m.effects = m.PendingEffects()
}

func (m *Machine) commandEnded(in CommandEnded) {
	step := m.saga.Step(in.Step)
	if step == nil {
		return
	}
	if in.Direction == Compensation {
		m.compensationOutcome(step, in)
		return
	}
	if step.State != treatyv1.StepState_STEP_STATE_SCHEDULED {
		return
	}
	switch in.Outcome {
	case Done:
		m.record(&treatyv1.Record{Kind: &treatyv1.Record_StepDone{StepDone: &treatyv1.StepDone{
			Step: in.Step, Reply: in.Reply, Attempts: in.Attempts,
		}}})
	case Refused:
		m.record(&treatyv1.Record{Kind: &treatyv1.Record_StepRefused{StepRefused: &treatyv1.StepRefused{
			Step: in.Step, Failure: in.Failure, Attempts: in.Attempts,
		}}})
	case Unknown:
		if step.Scheduled.GetKind() == treatyv1.CommandKind_COMMAND_KIND_PIVOT {
			m.suspend(&treatyv1.SagaSuspended{
				Reason: treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_UNKNOWN, Step: in.Step, Failure: in.Failure, Attempts: in.Attempts,
				Message: fmt.Sprintf("gave up on step %s (%s), the pivot, which may have been executed, so the saga can go neither on nor back; "+
					"find out at the participant, then retry, mark it done with its reply, or mark it refused", in.Step, step.Scheduled.GetMethod()),
			})
			return
		}
		m.record(&treatyv1.Record{Kind: &treatyv1.Record_StepUnknown{StepUnknown: &treatyv1.StepUnknown{
			Step: in.Step, Failure: in.Failure, Attempts: in.Attempts,
		}}})
	}
	m.proceed()
}

// suspend stops the saga until an operator decides.
func (m *Machine) suspend(suspended *treatyv1.SagaSuspended) {
	for _, text := range []*string{&suspended.Message, &suspended.Expected, &suspended.Found} {
		*text = strings.ToValidUTF8(*text, "\uFFFD") // the code's own words may be in it
	}
	m.record(&treatyv1.Record{Kind: &treatyv1.Record_SagaSuspended{SagaSuspended: suspended}})
}
