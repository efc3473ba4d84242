package machine

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// ErrJournal says that a journal can't be folded: a record is unknown (it was written by a newer version), or doesn't fit what came
// before it.
var ErrJournal = errors.New("the journal can't be read")

// Saga is what a journal says of one saga. It needs no saga code. A Saga that a Machine handed out must not be changed.
type Saga struct {
	// ID is the last part of the saga's name.
	ID string

	// Started is how it was started.
	Started *treatyv1.SagaStarted

	// State is where it stands.
	State treatyv1.SagaState

	// Turns counts the turns folded so far.
	Turns uint64

	// CreateTime, UpdateTime and EndTime are the times of the first, the latest and the final turn; EndTime is zero before.
	CreateTime, UpdateTime, EndTime time.Time

	// Steps are its steps in the order in which they were scheduled.
	Steps []*Step

	// Decided is why it is undone; nil while it isn't.
	Decided *treatyv1.CompensationDecided

	// Suspension is why it waits for an operator; nil while it doesn't.
	Suspension *treatyv1.SagaSuspended

	// Reply is its serialized reply once it has succeeded.
	Reply []byte

	// Waits are what its code waits for beside commands, in the order in which the waits began.
	Waits []*OpenWait

	// Scopes are those of its scopes that failed and are undone by themselves, in the order of the decisions.
	Scopes []*FailedScope

	// versions are the versions of changes that it goes by.
	versions map[string]int32

	// Progress is how far it says it has come; nil when it says nothing.
	Progress *anypb.Any

	// Round is how many times it was begun; 1 unless it was restarted.
	Round uint32

	// payloadBytes is how long the requests, replies, events and progress are that its journal holds, altogether.
	payloadBytes int

	// FirstRequest is the serialized request that it was started with, in its first round.
	FirstRequest []byte

	// roundTime is when its round began.
	roundTime time.Time

	taken    map[eventKey]uint64 // the positions of the last events taken
	asked    int                 // waits and broadcasts that were ever scheduled in this round
	byPath   map[string]*Step
	lines    line
	failed   map[string]bool // the paths of Scopes
	noReturn *Step           // behind which the saga can't be undone
	ordered  int             // steps that are in lines
	records  int             // that were folded in this round
}

// OpenWait is a wait that hasn't ended.
type OpenWait struct {
	// Scheduled is its intent.
	Scheduled *treatyv1.WaitScheduled

	// ScheduleTime is when it began.
	ScheduleTime time.Time
}

// FailedScope is a scope that is undone, or was, while the saga goes on.
type FailedScope struct {
	// Decided is the decision.
	Decided *treatyv1.ScopeCompensationDecided

	// DecideTime is when it was made.
	DecideTime time.Time
}

type eventKey struct{ typ, subject string }

func keyOf(key *treatyv1.EventKey) eventKey { return eventKey{key.GetType(), key.GetSubject()} }

// Taken returns the position of the last event of a key that the saga took; 0 when it took none.
func (s *Saga) Taken(key *treatyv1.EventKey) uint64 { return s.taken[keyOf(key)] }

// root is what the paths of a round begin with.
func (s *Saga) root() string {
	if s.Round <= 1 {
		return ""
	}
	return "r" + strconv.FormatUint(uint64(s.Round), 10) + "."
}

// Step is what a journal says of one step.
type Step struct {
	// Scheduled is its intent.
	Scheduled *treatyv1.StepScheduled

	// State is where it stands.
	State treatyv1.StepState

	// Reply is the serialized reply of its action; nil unless it was done.
	Reply []byte

	// Failure is the status of its action when that was refused or is unknown.
	Failure *treatyv1.Failure

	// Attempts is how many attempts the journal tells of, for the action and for the compensation.
	Attempts, CompensationAttempts uint32

	// Decision is set when an operator decided its outcome, or its compensation's, by hand.
	Decision *treatyv1.Decision

	// EditedRequest is what an operator put in the place of the compensation's derived request.
	EditedRequest []byte

	// ScheduleTime, EndTime, CompensationScheduleTime and CompensationEndTime are the times of its turns; zero before.
	ScheduleTime, EndTime, CompensationScheduleTime, CompensationEndTime time.Time

	abandoned bool // no further attempt: its code is stopped

	scheduled, ended int // the records that say so, counted from 1; 0 when there is none
}

// Path is the step's path in its saga.
func (s *Step) Path() string { return s.Scheduled.GetStep() }

// deadline is when the saga is cancelled; zero means never.
func (s *Saga) deadline() time.Time {
	if d := s.Started.GetDeadline(); d != nil {
		return d.AsTime()
	}
	return time.Time{}
}

// allowed is how long a round of the saga may take; 0 means without end.
func (s *Saga) allowed() time.Duration {
	if deadline := s.deadline(); !deadline.IsZero() {
		return deadline.Sub(s.roundTime)
	}
	return 0
}

// Final says whether the saga has ended.
func (s *Saga) Final() bool {
	return s.State == treatyv1.SagaState_SAGA_STATE_SUCCEEDED || s.State == treatyv1.SagaState_SAGA_STATE_COMPENSATED
}

// Step returns the step of the given path, or nil.
func (s *Saga) Step(path string) *Step { return s.byPath[path] }

// Fold reads one more turn. It returns ErrJournal when the turn doesn't fit.
func (s *Saga) Fold(turn *treatyv1.Turn) error {
	for _, record := range turn.GetRecords() {
		if err := s.fold(turn.GetTime().AsTime(), record); err != nil {
			return err
		}
	}
	s.endTurn(turn.GetTime().AsTime())
	return nil
}

func (s *Saga) endTurn(now time.Time) {
	s.Turns++
	s.UpdateTime = now
	if s.CreateTime.IsZero() {
		s.CreateTime = now
	}
	if s.Final() && s.EndTime.IsZero() {
		s.EndTime = now
	}
}

// fold reads one record.
func (s *Saga) fold(now time.Time, record *treatyv1.Record) error {
	s.records++
	switch r := record.GetKind().(type) {
	case *treatyv1.Record_SagaStarted:
		if s.Started != nil {
			return s.misfit("saga_started", "the saga was started before")
		}
		s.Started, s.State, s.Round, s.roundTime = r.SagaStarted, treatyv1.SagaState_SAGA_STATE_RUNNING, 1, now
		s.FirstRequest = r.SagaStarted.GetRequest()
		s.payloadBytes += len(r.SagaStarted.GetRequest())
	case *treatyv1.Record_StepScheduled:
		if s.byPath[r.StepScheduled.GetStep()] != nil {
			return s.misfit("step_scheduled", "step "+r.StepScheduled.GetStep()+" was scheduled before")
		}
		s.schedule(now, r.StepScheduled)
		s.payloadBytes += len(r.StepScheduled.GetRequest())
	case *treatyv1.Record_StepDone, *treatyv1.Record_StepRefused, *treatyv1.Record_StepUnknown:
		return s.foldOutcome(now, record)
	case *treatyv1.Record_CompensationDecided:
		s.Decided, s.State, s.Suspension = r.CompensationDecided, treatyv1.SagaState_SAGA_STATE_COMPENSATING, nil
		s.Waits, s.EndTime = nil, time.Time{} // a child that had ended goes on
	case *treatyv1.Record_CompensationScheduled, *treatyv1.Record_CompensationDone:
		return s.foldCompensation(now, record)
	case *treatyv1.Record_SagaSuspended:
		s.Suspension, s.State = r.SagaSuspended, treatyv1.SagaState_SAGA_STATE_SUSPENDED
		s.countAttempts(r.SagaSuspended)
	case *treatyv1.Record_SagaResumed:
		s.Suspension, s.State = nil, treatyv1.SagaState_SAGA_STATE_RUNNING
		if s.Decided != nil {
			s.State = treatyv1.SagaState_SAGA_STATE_COMPENSATING
		}
	case *treatyv1.Record_SagaSucceeded:
		s.Reply, s.State = r.SagaSucceeded.GetReply(), treatyv1.SagaState_SAGA_STATE_SUCCEEDED
		s.payloadBytes += len(s.Reply)
	case *treatyv1.Record_SagaCompensated:
		s.State = treatyv1.SagaState_SAGA_STATE_COMPENSATED
	case *treatyv1.Record_SagaRestarted:
		s.restart(r.SagaRestarted)
	case *treatyv1.Record_WaitScheduled:
		s.Waits = append(s.Waits, &OpenWait{Scheduled: r.WaitScheduled, ScheduleTime: now})
		s.asked++
	case *treatyv1.Record_WaitEnded:
		return s.foldWaitEnded(r.WaitEnded)
	case *treatyv1.Record_ScopeCompensationDecided:
		s.Scopes = append(s.Scopes, &FailedScope{Decided: r.ScopeCompensationDecided, DecideTime: now})
		if s.failed == nil {
			s.failed = make(map[string]bool)
		}
		s.failed[r.ScopeCompensationDecided.GetScope()] = true
	case *treatyv1.Record_VersionChosen:
		s.chooseVersion(r.VersionChosen)
	case *treatyv1.Record_ProgressSet:
		s.Progress = r.ProgressSet.GetProgress()
		s.payloadBytes += len(s.Progress.GetValue())
	case *treatyv1.Record_BroadcastScheduled:
		s.asked++ // also one that goes to nobody
	case *treatyv1.Record_ScopeOpened, *treatyv1.Record_ScopeExpired:
		// They concern the code alone.
	default:
		return s.misfit("record", "its kind is unknown to this version; run the version that wrote it, or a newer one")
	}
	return nil
}

// restart begins the next round: what was before is no longer known.
func (s *Saga) restart(r *treatyv1.SagaRestarted) {
	*s = Saga{
		ID: s.ID, Started: r.GetStarted(), State: treatyv1.SagaState_SAGA_STATE_RUNNING, Round: r.GetRound(), Turns: s.Turns,
		CreateTime: r.GetCreateTime().AsTime(), UpdateTime: s.UpdateTime, Progress: r.GetProgress(), roundTime: r.GetRoundTime().AsTime(), FirstRequest: r.GetFirstRequest(),
		payloadBytes: len(r.GetStarted().GetRequest()),
	}
	for _, taken := range r.GetEventsTaken() {
		s.take(taken.GetKey(), taken.GetPosition())
	}
}

// choose reads the versions of a turn ahead: code asks for one before the record that holds it comes.
func (s *Saga) choose(turn *treatyv1.Turn) {
	for _, record := range turn.GetRecords() {
		if chosen := record.GetVersionChosen(); chosen != nil {
			s.chooseVersion(chosen)
		}
	}
}

func (s *Saga) chooseVersion(chosen *treatyv1.VersionChosen) {
	if s.versions == nil {
		s.versions = make(map[string]int32)
	}
	s.versions[chosen.GetChange()] = chosen.GetVersion()
}

func (s *Saga) take(key *treatyv1.EventKey, position uint64) {
	if s.taken == nil {
		s.taken = make(map[eventKey]uint64)
	}
	s.taken[keyOf(key)] = position
}

func (s *Saga) foldWaitEnded(ended *treatyv1.WaitEnded) error {
	i := slices.IndexFunc(s.Waits, func(w *OpenWait) bool { return w.Scheduled.GetWait() == ended.GetWait() })
	if i < 0 {
		return s.misfit("wait_ended", "wait "+ended.GetWait()+" isn't under way")
	}
	if event := ended.GetEvent(); event != nil {
		keys := s.Waits[i].Scheduled.GetEvents()
		if int(event.GetIndex()) >= len(keys) || event.GetIndex() < 0 {
			return s.misfit("wait_ended", "wait "+ended.GetWait()+" awaits no such event")
		}
		s.take(keys[event.GetIndex()], event.GetPosition())
		s.payloadBytes += len(event.GetData())
	}
	s.Waits = slices.Delete(s.Waits, i, i+1)
	return nil
}

func (s *Saga) schedule(now time.Time, scheduled *treatyv1.StepScheduled) *Step {
	step := &Step{Scheduled: scheduled, State: treatyv1.StepState_STEP_STATE_SCHEDULED, ScheduleTime: now, scheduled: s.records}
	if s.byPath == nil {
		s.byPath = make(map[string]*Step, 4)
	}
	s.byPath[scheduled.GetStep()] = step
	s.Steps = append(s.Steps, step)
	s.pass(step)
	return step
}

func (s *Saga) foldOutcome(now time.Time, record *treatyv1.Record) error {
	var path string
	switch r := record.GetKind().(type) {
	case *treatyv1.Record_StepDone:
		path = r.StepDone.GetStep()
	case *treatyv1.Record_StepRefused:
		path = r.StepRefused.GetStep()
	case *treatyv1.Record_StepUnknown:
		path = r.StepUnknown.GetStep()
	}
	step := s.byPath[path]
	if step == nil || step.State != treatyv1.StepState_STEP_STATE_SCHEDULED {
		return s.misfit("outcome", "step "+path+" isn't under way")
	}
	step.EndTime, step.ended = now, s.records
	switch r := record.GetKind().(type) {
	case *treatyv1.Record_StepDone:
		step.State, step.Reply = treatyv1.StepState_STEP_STATE_DONE, nonNil(r.StepDone.GetReply())
		s.payloadBytes += len(step.Reply)
		step.Attempts, step.Decision = r.StepDone.GetAttempts(), r.StepDone.GetDecision()
		s.pass(step)
	case *treatyv1.Record_StepRefused:
		step.State, step.Failure = treatyv1.StepState_STEP_STATE_REFUSED, r.StepRefused.GetFailure()
		step.Attempts, step.Decision = r.StepRefused.GetAttempts(), r.StepRefused.GetDecision()
	case *treatyv1.Record_StepUnknown:
		step.State, step.Failure = treatyv1.StepState_STEP_STATE_UNKNOWN, r.StepUnknown.GetFailure()
		step.Attempts = r.StepUnknown.GetAttempts()
	}
	return nil
}

func (s *Saga) foldCompensation(now time.Time, record *treatyv1.Record) error {
	switch r := record.GetKind().(type) {
	case *treatyv1.Record_CompensationScheduled:
		step := s.byPath[r.CompensationScheduled.GetStep()]
		if step == nil || !mayHaveRun(step) && step.State != treatyv1.StepState_STEP_STATE_COMPENSATING {
			return s.misfit("compensation_scheduled", "step "+r.CompensationScheduled.GetStep()+" has nothing to undo")
		}
		step.State, step.CompensationScheduleTime = treatyv1.StepState_STEP_STATE_COMPENSATING, now
		step.EditedRequest = r.CompensationScheduled.GetEditedRequest()
	case *treatyv1.Record_CompensationDone:
		step := s.byPath[r.CompensationDone.GetStep()]
		if step == nil || step.State != treatyv1.StepState_STEP_STATE_COMPENSATING {
			return s.misfit("compensation_done", "step "+r.CompensationDone.GetStep()+" isn't being undone")
		}
		step.State, step.CompensationEndTime = treatyv1.StepState_STEP_STATE_COMPENSATED, now
		step.CompensationAttempts = r.CompensationDone.GetAttempts()
		if d := r.CompensationDone.GetDecision(); d != nil {
			step.Decision = d
		}
	}
	return nil
}

func (s *Saga) misfit(record, why string) error {
	return fmt.Errorf("%w: %s in turn %d of saga %s: %s", ErrJournal, record, s.Turns+1, s.ID, why)
}

// countAttempts keeps how often a stuck command was tried, so that its attempts are counted on when it is sent again.
func (s *Saga) countAttempts(suspended *treatyv1.SagaSuspended) {
	step := s.byPath[suspended.GetStep()]
	switch {
	case step == nil || suspended.GetAttempts() == 0:
	case step.State == treatyv1.StepState_STEP_STATE_COMPENSATING:
		step.CompensationAttempts = suspended.GetAttempts()
	default:
		step.Attempts = suspended.GetAttempts()
	}
}

// nonNil keeps "an empty reply" apart from "no reply": protobuf reads an empty bytes field as nil.
func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// mayHaveRun says whether the step's action is done or unknown and nothing has been done about it.
func mayHaveRun(step *Step) bool {
	return step.State == treatyv1.StepState_STEP_STATE_DONE || step.State == treatyv1.StepState_STEP_STATE_UNKNOWN
}

// pointOfNoReturn returns the step behind which the saga can't be undone: a pivot that is done, or a retriable command. It
// returns nil while there is none.
func (s *Saga) pointOfNoReturn() *Step { return s.noReturn }

// pass keeps the first step behind which the saga can't be undone: it is asked for with each step.
func (s *Saga) pass(step *Step) {
	kind := step.Scheduled.GetKind()
	if s.noReturn == nil && (kind == treatyv1.CommandKind_COMMAND_KIND_RETRIABLE ||
		kind == treatyv1.CommandKind_COMMAND_KIND_PIVOT && step.State == treatyv1.StepState_STEP_STATE_DONE) {
		s.noReturn = step
	}
}

// settling says whether the code has returned its reply and only steps of unknown outcome are being undone. Turning the saga around
// then would undo newer steps after older ones.
func (s *Saga) settling() bool {
	if s.Decided != nil {
		return false
	}
	for _, step := range s.Steps {
		undone := step.State == treatyv1.StepState_STEP_STATE_COMPENSATING || step.State == treatyv1.StepState_STEP_STATE_COMPENSATED
		if undone && !s.inFailedScope(step) {
			return true
		}
	}
	return false
}

// inFailedScope says whether the step is undone with its scope.
func (s *Saga) inFailedScope(step *Step) bool {
	if len(s.failed) == 0 {
		return false
	}
	path := step.Path()
	for i := range len(path) {
		if path[i] == '.' && s.failed[path[:i]] {
			return true
		}
	}
	return false
}

// pivotUnderWay returns the pivot whose outcome is still open, or nil.
func (s *Saga) pivotUnderWay() *Step {
	for _, step := range s.Steps {
		if step.Scheduled.GetKind() == treatyv1.CommandKind_COMMAND_KIND_PIVOT && step.State == treatyv1.StepState_STEP_STATE_SCHEDULED {
			return step
		}
	}
	return nil
}
