package machine

import (
	"fmt"
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

	// Environment is handed to the code as it is.
	Environment any
}

// Machine runs one saga. It is not safe for concurrent use. Close it when it is dropped: saga code may be waiting in it.
type Machine struct {
	config Config
	saga   *Saga
	co     *coroutine

	now       time.Time
	replaying bool
	mismatch  *treatyv1.SagaSuspended // found while replaying, not yet recorded

	records []*treatyv1.Record // of the turn in the making
	effects []Effect
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
}

// New returns the machine of a saga whose journal is still empty.
func New(config Config) *Machine {
	return &Machine{config: config, saga: &Saga{ID: config.ID}}
}

// Saga is what the journal says so far, with what the latest Apply added.
func (m *Machine) Saga() *Saga { return m.saga }

// Close ends the saga's coroutine. The machine is of no use afterwards; its Saga stays readable.
func (m *Machine) Close() { m.stopCode() }

// Replay reads one stored turn and runs the saga's code as far. It returns ErrJournal when the turn can't be read. Code that does
// something else than the journal says is no error: the next Wake suspends the saga.
func (m *Machine) Replay(turn *treatyv1.Turn) error {
	m.now, m.replaying = turn.GetTime().AsTime(), true
	defer func() { m.replaying = false }()
	for _, record := range turn.GetRecords() {
		m.compare(record)
		if err := m.saga.fold(m.now, record); err != nil {
			return err
		}
		m.follow(record)
	}
	m.saga.endTurn(m.now)
	return nil
}

// Apply takes an input at the time now. The errors are ErrPastPivot, ErrPivotUnderWay, ErrFinal, ErrNotSuspended and ErrUnfit; nothing is
// recorded then.
func (m *Machine) Apply(now time.Time, in Input) (Output, error) {
	// A turn's time never goes back, whatever the clock does; the journal keeps no more than microseconds.
	m.now = now.UTC().Truncate(time.Microsecond)
	if m.now.Before(m.saga.UpdateTime) {
		m.now = m.saga.UpdateTime
	}
	m.records, m.effects = nil, nil
	var reload bool
	var err error
	switch in := in.(type) {
	case Start:
		m.record(&treatyv1.Record{Kind: &treatyv1.Record_SagaStarted{SagaStarted: in.Started}})
		m.drive()
	case Outcome:
		m.outcome(in)
	case Cancel:
		err = m.cancel(in)
	case Resume:
		reload, err = m.resume(in)
	case Wake:
		m.wake()
	}
	if err != nil || len(m.records) == 0 {
		return Output{Effects: m.effects}, err
	}
	m.saga.endTurn(m.now)
	turn := &treatyv1.Turn{Time: timestamppb.New(m.now), Records: m.records}
	return Output{Turn: turn, Effects: m.effects, Reload: reload}, nil
}

// Due is when the saga wants to be woken; zero means by no timer.
func (m *Machine) Due() time.Time {
	if m.saga.Final() || m.saga.Decided != nil || m.saga.settling() || m.saga.pointOfNoReturn() != nil {
		return time.Time{}
	}
	return m.saga.Deadline()
}

// Outstanding returns the effects that the journal intends and whose end it doesn't hold. A suspended saga has none.
func (m *Machine) Outstanding() []Effect {
	if m.saga.Suspension != nil {
		return nil
	}
	var effects []Effect
	for _, step := range m.saga.Steps {
		switch step.State {
		case treatyv1.StepState_STEP_STATE_SCHEDULED:
			effects = append(effects, Effect{Step: step, Direction: Action, Abandon: m.saga.Decided != nil})
		case treatyv1.StepState_STEP_STATE_COMPENSATING:
			effects = append(effects, Effect{Step: step, Direction: Compensation})
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
	m.follow(record)
}

// drive does what is due after a record.
func (m *Machine) drive() {
	switch m.saga.State {
	case treatyv1.SagaState_SAGA_STATE_RUNNING:
		m.forward()
	case treatyv1.SagaState_SAGA_STATE_COMPENSATING:
		m.backward()
	}
}

func (m *Machine) wake() {
	switch {
	case m.saga.Final():
		return
	case m.deadlinePassed():
		m.decideDeadline()
	default:
		m.drive()
	}
	m.effects = m.Outstanding()
}

func (m *Machine) outcome(in Outcome) {
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
	switch in.Verdict {
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
	m.drive()
}

func (m *Machine) cancel(in Cancel) error {
	switch {
	case m.saga.Decided != nil:
		return nil
	case m.saga.Final():
		return ErrFinal
	case m.saga.settling():
		return fmt.Errorf("%w: its code has returned, only steps of unknown outcome are still being undone", ErrFinal)
	case m.saga.pointOfNoReturn() != nil:
		return fmt.Errorf("%w: step %s (%s)", ErrPastPivot, m.saga.pointOfNoReturn().Path(), m.saga.pointOfNoReturn().Scheduled.GetMethod())
	case m.saga.pivotUnderWay() != nil:
		return fmt.Errorf("%w: step %s (%s)", ErrPivotUnderWay, m.saga.pivotUnderWay().Path(), m.saga.pivotUnderWay().Scheduled.GetMethod())
	}
	message := "the saga was cancelled"
	if reason := in.Decision.GetReason(); reason != "" {
		message += ": " + reason
	}
	m.decide(&treatyv1.CompensationDecided{
		Cause:    treatyv1.CompensationCause_COMPENSATION_CAUSE_CANCELLED,
		Failure:  &treatyv1.Failure{Code: codeCancelled, Message: message},
		Decision: in.Decision,
	})
	m.effects = m.Outstanding()
	return nil
}

// suspend stops the saga until an operator decides.
func (m *Machine) suspend(suspended *treatyv1.SagaSuspended) {
	m.record(&treatyv1.Record{Kind: &treatyv1.Record_SagaSuspended{SagaSuspended: suspended}})
}

// gRPC codes that the machine itself uses.
const (
	codeCancelled          = 1
	codeDeadlineExceeded   = 4
	codeFailedPrecondition = 9
)
