package machine

import (
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Saga is the state of a saga according to its journal. Folding a journal into a Saga needs no saga code. Callers must
// not change a Saga that they got from a Machine.
type Saga struct {
	// ID is the last part of the saga's name.
	ID string

	// Started is how the current round was started.
	Started *treatyv1.SagaStarted

	// State is the saga's state.
	State treatyv1.SagaState

	// Turns counts the turns so far, including those of earlier rounds.
	Turns uint64

	// CreateTime, UpdateTime and EndTime are the times of the first, the latest and the final turn. EndTime is zero
	// until the saga has ended.
	CreateTime, UpdateTime, EndTime time.Time

	// Steps are the steps of the current round in the order in which they were scheduled.
	Steps []*Step

	// CompensationDecided says why the saga compensates. It is nil if the saga doesn't.
	CompensationDecided *treatyv1.CompensationDecided

	// Suspension says why the saga waits for an operator. It is nil if the saga isn't suspended.
	Suspension *treatyv1.SagaSuspended

	// Reply is the serialized reply of a saga that has succeeded.
	Reply []byte

	// HasSucceeded reports that the saga has succeeded, although its parent may have compensated it since.
	HasSucceeded bool

	// SucceedTime is when the saga succeeded. It is zero if it hasn't.
	SucceedTime time.Time

	// Waits are the open waits for timers and events, in the order in which they were scheduled.
	Waits []*OpenWait

	// Scopes are the scopes that failed and were compensated on their own, in the order of the decisions.
	Scopes []*FailedScope

	// Progress is the latest progress that the code set, or nil.
	Progress *anypb.Any

	// Round is the number of the current round. It is 1 unless the saga was restarted.
	Round uint32

	// FirstRequest is the serialized request of the first round.
	FirstRequest []byte

	// Revision identifies what can be decided about the saga: it changes with its state, and each suspension has its
	// own. It is 0 only before the first turn. See [Etag].
	Revision uint64

	revised      bool                // the turn in the making has changed what can be decided
	restored     *restoration        // nil unless the saga was restored from a backup
	versions     map[string]int32    // the chosen versions of changes
	roundTime    time.Time           // when the current round started
	payloadBytes int                 // the size of all requests, replies, events and progress in the journal
	taken        map[eventKey]uint64 // the positions of the last events that the saga took
	unstepped    int                 // how many waits and broadcasts were scheduled in this round
	byPath       map[string]*Step
	sequence     sequence        // the steps of the main thread and its branches
	ordered      int             // how many steps are in sequence
	failed       map[string]bool // the paths of Scopes
	noReturn     *Step           // the point of no return, or nil
	records      int             // how many records were folded in this round
}

// OpenWait is a wait that hasn't ended.
type OpenWait struct {
	// Scheduled is the record that scheduled the wait.
	Scheduled *treatyv1.WaitScheduled

	// ScheduleTime is the time of that record.
	ScheduleTime time.Time
}

// FailedScope is a scope that failed and is compensated, or was, while the saga continues.
type FailedScope struct {
	// Decided is the decision to compensate the scope.
	Decided *treatyv1.ScopeCompensationDecided

	// DecideTime is the time of the decision.
	DecideTime time.Time
}

// Step is the state of a step according to the journal.
type Step struct {
	// Scheduled is the record that scheduled the step.
	Scheduled *treatyv1.StepScheduled

	// State is the step's state.
	State treatyv1.StepState

	// Reply is the serialized reply of the action. It is nil unless the action was done.
	Reply []byte

	// Failure is the status of an action that was refused or whose outcome is unknown.
	Failure *treatyv1.Failure

	// MayHaveRun means that the action was refused, but that an earlier attempt may have been executed.
	MayHaveRun bool

	// Digest is the digest under which the participant keeps the action, if it differs from that of the request.
	Digest string

	// Attempts and CompensationAttempts are the numbers of attempts in the journal, for the action and for the
	// compensation.
	Attempts, CompensationAttempts uint32

	// Decision is the operator's decision if an operator set the outcome of the action or else of the compensation.
	Decision *treatyv1.Decision

	// CompensationDecision is the operator's decision if an operator set the outcome of the compensation.
	CompensationDecision *treatyv1.Decision

	// Principal and CompensationPrincipal are the ids of the principals that completed the action and the compensation.
	// They are empty if the participant answered itself.
	Principal, CompensationPrincipal string

	// EditedRequest is the serialized request with which an operator replaced the derived request of the compensation.
	EditedRequest []byte

	// ScheduleTime, EndTime, CompensationScheduleTime and CompensationEndTime are the times of the step's records. A
	// time is zero until the record exists.
	ScheduleTime, EndTime, CompensationScheduleTime, CompensationEndTime time.Time

	// UndoTime is when the compensation was scheduled for the first time: CompensationScheduleTime, unless a person has
	// had it sent again with another request since.
	UndoTime time.Time

	abandoned        bool // no more attempts, because the branch was stopped
	scheduled, ended int  // the numbers of the records, counted from 1; 0 if there is none
}

// Path returns the step's path in its saga, e.g. "2.1.4".
func (s *Step) Path() string { return s.Scheduled.GetStep() }

type eventKey struct{ typ, subject string }

func keyOf(key *treatyv1.EventKey) eventKey { return eventKey{key.GetType(), key.GetSubject()} }

// Taken returns the position of the last event with a key that the saga took, or 0.
func (s *Saga) Taken(key *treatyv1.EventKey) uint64 { return s.taken[keyOf(key)] }

// Final reports whether the saga has ended.
func (s *Saga) Final() bool {
	return s.State == treatyv1.SagaState_SAGA_STATE_SUCCEEDED || s.State == treatyv1.SagaState_SAGA_STATE_COMPENSATED
}

// Step returns the step with a path, or nil.
func (s *Saga) Step(path string) *Step { return s.byPath[path] }

// root is the prefix of all paths of the current round.
func (s *Saga) root() string {
	if s.Round <= 1 {
		return ""
	}
	return "r" + strconv.FormatUint(uint64(s.Round), 10) + "."
}

// deadline returns when the saga is cancelled, or zero.
func (s *Saga) deadline() time.Time {
	if d := s.Started.GetDeadline(); d != nil {
		return d.AsTime()
	}
	return time.Time{}
}

// allowed returns how long a round of the saga may take. 0 means no limit.
func (s *Saga) allowed() time.Duration {
	if deadline := s.deadline(); !deadline.IsZero() {
		return deadline.Sub(s.roundTime)
	}
	return 0
}

// mayHaveRun reports whether a step's action is done, or may have been executed, and is not being compensated.
func mayHaveRun(step *Step) bool {
	return step.State == treatyv1.StepState_STEP_STATE_DONE || inDoubt(step)
}

// inDoubt reports whether a step's action may have been executed, but isn't done, and is not being compensated.
func inDoubt(step *Step) bool {
	return step.State == treatyv1.StepState_STEP_STATE_UNKNOWN ||
		step.State == treatyv1.StepState_STEP_STATE_REFUSED && step.MayHaveRun
}

// pointOfNoReturn returns the first step after which the saga can't compensate: a pivot that is done, or a retriable
// command. It returns nil if there is none.
func (s *Saga) pointOfNoReturn() *Step { return s.noReturn }

// mustSucceed reports whether the saga can never compensate: its parent has sent it as a retriable command, and can't
// compensate itself.
func (s *Saga) mustSucceed() bool {
	return s.Started.GetParent().GetKind() == treatyv1.CommandKind_COMMAND_KIND_RETRIABLE
}

// Irreversible reports whether the saga can't compensate, or can no longer.
func (s *Saga) Irreversible() bool { return s.noReturn != nil || s.mustSucceed() }

// notePointOfNoReturn is called for each step that is scheduled or done.
func (s *Saga) notePointOfNoReturn(step *Step) {
	kind := step.Scheduled.GetKind()
	if s.noReturn == nil && (kind == treatyv1.CommandKind_COMMAND_KIND_RETRIABLE ||
		kind == treatyv1.CommandKind_COMMAND_KIND_PIVOT && step.State == treatyv1.StepState_STEP_STATE_DONE) {
		s.noReturn = step
	}
}

// isPivotInFlight reports whether a step is a pivot whose outcome is open.
func isPivotInFlight(step *Step) bool {
	return step.Scheduled.GetKind() == treatyv1.CommandKind_COMMAND_KIND_PIVOT &&
		step.State == treatyv1.StepState_STEP_STATE_SCHEDULED
}

// compensatingUnknown reports whether the code has returned its reply and only steps with unknown outcomes are being
// compensated. The saga can no longer compensate as a whole then, because that would compensate newer steps after older
// ones.
func (s *Saga) compensatingUnknown() bool {
	if s.CompensationDecided != nil {
		return false
	}
	for _, step := range s.Steps {
		compensated := step.State == treatyv1.StepState_STEP_STATE_COMPENSATING ||
			step.State == treatyv1.StepState_STEP_STATE_COMPENSATED
		if compensated && !s.inFailedScope(step) {
			return true
		}
	}
	return false
}

// inFailedScope reports whether a step is compensated with its scope.
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
