package machine

import (
	"errors"
	"fmt"
	"slices"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// ErrJournal means that a journal can't be folded: a record is of a kind that this version doesn't know, or doesn't fit
// the records before it.
var ErrJournal = errors.New("the journal can't be read")

// Fold applies the records of a turn. It returns an error that wraps [ErrJournal] if a record can't be applied.
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
	s.revise(now)
	if s.CreateTime.IsZero() {
		s.CreateTime = now
	}
	if s.Final() && s.EndTime.IsZero() {
		s.EndTime = now
		if s.HasSucceeded && s.SucceedTime.IsZero() {
			s.SucceedTime = now
		}
	}
}

// fold applies a record.
func (s *Saga) fold(now time.Time, record *treatyv1.Record) error {
	s.records++
	s.noteDecidable(record)
	switch r := record.GetKind().(type) {
	case *treatyv1.Record_SagaStarted:
		if s.Started != nil {
			return s.misfit("saga_started", "the saga has already started")
		}
		s.Started, s.State, s.Round, s.roundTime = r.SagaStarted, treatyv1.SagaState_SAGA_STATE_RUNNING, 1, now
		s.FirstRequest = r.SagaStarted.GetRequest()
		s.payloadBytes += len(r.SagaStarted.GetRequest())
	case *treatyv1.Record_StepScheduled:
		if s.byPath[r.StepScheduled.GetStep()] != nil {
			return s.misfit("step_scheduled", "step "+r.StepScheduled.GetStep()+" is already scheduled")
		}
		s.schedule(now, r.StepScheduled)
		s.payloadBytes += len(r.StepScheduled.GetRequest())
	case *treatyv1.Record_StepDone, *treatyv1.Record_StepRefused, *treatyv1.Record_StepUnknown:
		return s.foldOutcome(now, record)
	case *treatyv1.Record_CompensationDecided:
		s.CompensationDecided, s.Suspension = r.CompensationDecided, nil
		if s.restored != nil {
			s.restored.accepted = true // what the participants know was considered
		}
		s.State = treatyv1.SagaState_SAGA_STATE_COMPENSATING
		s.Waits, s.EndTime = nil, time.Time{} // a child that had succeeded continues
	case *treatyv1.Record_CompensationScheduled, *treatyv1.Record_CompensationDone:
		return s.foldCompensation(now, record)
	case *treatyv1.Record_SagaSuspended:
		s.Suspension, s.State = r.SagaSuspended, treatyv1.SagaState_SAGA_STATE_SUSPENDED
		s.countAttempts(r.SagaSuspended)
	case *treatyv1.Record_SagaResumed:
		if isOfRestoration(s.Suspension.GetReason()) && s.restored != nil {
			s.restored.accepted = true
		}
		s.Suspension, s.State = nil, treatyv1.SagaState_SAGA_STATE_RUNNING
		if s.CompensationDecided != nil {
			s.State = treatyv1.SagaState_SAGA_STATE_COMPENSATING
		}
	case *treatyv1.Record_SagaSucceeded:
		s.Reply, s.State = r.SagaSucceeded.GetReply(), treatyv1.SagaState_SAGA_STATE_SUCCEEDED
		s.HasSucceeded = true
		s.payloadBytes += len(s.Reply)
	case *treatyv1.Record_SagaCompensated:
		s.State = treatyv1.SagaState_SAGA_STATE_COMPENSATED
	case *treatyv1.Record_SagaRestored:
		s.restored = &restoration{SagaRestored: r.SagaRestored, accepted: r.SagaRestored.GetAccepted()}
	case *treatyv1.Record_SagaRestarted:
		s.restart(r.SagaRestarted)
	case *treatyv1.Record_WaitScheduled:
		s.Waits = append(s.Waits, &OpenWait{Scheduled: r.WaitScheduled, ScheduleTime: now})
		s.unstepped++
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
		s.unstepped++ // including one without participants
	case *treatyv1.Record_ScopeOpened, *treatyv1.Record_ScopeExpired:
		// They concern the code only.
	default:
		return s.misfit("record", "this version doesn't know its kind; run the version that wrote it, or a newer one")
	}
	return nil
}

// restart starts the next round. It drops the state of the round before.
func (s *Saga) restart(r *treatyv1.SagaRestarted) {
	*s = Saga{
		ID:           s.ID,
		Started:      r.GetStarted(),
		State:        treatyv1.SagaState_SAGA_STATE_RUNNING,
		Turns:        s.Turns,
		CreateTime:   r.GetCreateTime().AsTime(),
		UpdateTime:   s.UpdateTime,
		Progress:     r.GetProgress(),
		Round:        r.GetRound(),
		FirstRequest: r.GetFirstRequest(),
		roundTime:    r.GetRoundTime().AsTime(),
		revised:      true,
		payloadBytes: len(r.GetStarted().GetRequest()),
	}
	for _, taken := range r.GetEventsTaken() {
		s.take(taken.GetKey(), taken.GetPosition())
	}
}

// readVersions reads the versions in a turn ahead, because the code asks for a version before its record is applied.
func (s *Saga) readVersions(turn *treatyv1.Turn) {
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
		return s.misfit("wait_ended", "wait "+ended.GetWait()+" is not open")
	}
	if event := ended.GetEvent(); event != nil {
		keys := s.Waits[i].Scheduled.GetEvents()
		if int(event.GetIndex()) >= len(keys) || event.GetIndex() < 0 {
			return s.misfit("wait_ended", "wait "+ended.GetWait()+" doesn't await that event")
		}
		s.take(keys[event.GetIndex()], event.GetPosition())
		s.payloadBytes += len(event.GetData())
	}
	s.Waits = slices.Delete(s.Waits, i, i+1)
	return nil
}

func (s *Saga) schedule(now time.Time, scheduled *treatyv1.StepScheduled) *Step {
	step := &Step{
		Scheduled: scheduled, State: treatyv1.StepState_STEP_STATE_SCHEDULED, ScheduleTime: now, scheduled: s.records,
	}
	if s.byPath == nil {
		s.byPath, s.Steps = make(map[string]*Step, 4), slices.Grow(s.Steps, 4)
	}
	s.byPath[scheduled.GetStep()] = step
	s.Steps = append(s.Steps, step)
	s.notePointOfNoReturn(step)
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
		return s.misfit("outcome", "step "+path+" is not open")
	}
	step.EndTime, step.ended = now, s.records
	switch r := record.GetKind().(type) {
	case *treatyv1.Record_StepDone:
		step.State, step.Reply = treatyv1.StepState_STEP_STATE_DONE, nonNil(r.StepDone.GetReply())
		s.payloadBytes += len(step.Reply)
		step.Attempts, step.Decision = r.StepDone.GetAttempts(), r.StepDone.GetDecision()
		step.Digest, step.Principal = r.StepDone.GetRequestDigest(), r.StepDone.GetPrincipal()
		s.notePointOfNoReturn(step)
	case *treatyv1.Record_StepRefused:
		step.State, step.Failure = treatyv1.StepState_STEP_STATE_REFUSED, r.StepRefused.GetFailure()
		step.Attempts, step.Decision = r.StepRefused.GetAttempts(), r.StepRefused.GetDecision()
		step.MayHaveRun, step.Principal = r.StepRefused.GetMayHaveRun(), r.StepRefused.GetPrincipal()
	case *treatyv1.Record_StepUnknown:
		step.State, step.Failure = treatyv1.StepState_STEP_STATE_UNKNOWN, r.StepUnknown.GetFailure()
		step.Attempts = r.StepUnknown.GetAttempts()
	}
	return nil
}

func (s *Saga) foldCompensation(now time.Time, record *treatyv1.Record) error {
	switch r := record.GetKind().(type) {
	case *treatyv1.Record_CompensationScheduled:
		path := r.CompensationScheduled.GetStep()
		step := s.byPath[path]
		if step == nil || !mayHaveRun(step) && step.State != treatyv1.StepState_STEP_STATE_COMPENSATING {
			return s.misfit("compensation_scheduled", "step "+path+" has nothing to compensate")
		}
		step.State, step.CompensationScheduleTime = treatyv1.StepState_STEP_STATE_COMPENSATING, now
		if step.UndoTime.IsZero() {
			step.UndoTime = now
		}
		step.EditedRequest = r.CompensationScheduled.GetEditedRequest()
	case *treatyv1.Record_CompensationDone:
		step := s.byPath[r.CompensationDone.GetStep()]
		if step == nil || step.State != treatyv1.StepState_STEP_STATE_COMPENSATING {
			return s.misfit("compensation_done", "step "+r.CompensationDone.GetStep()+" is not being compensated")
		}
		step.State, step.CompensationEndTime = treatyv1.StepState_STEP_STATE_COMPENSATED, now
		step.CompensationAttempts = r.CompensationDone.GetAttempts()
		step.CompensationPrincipal = r.CompensationDone.GetPrincipal()
		if d := r.CompensationDone.GetDecision(); d != nil {
			if step.CompensationDecision = d; step.Decision == nil {
				step.Decision = d
			}
		}
	}
	return nil
}

func (s *Saga) misfit(record, why string) error {
	return fmt.Errorf("%w: %s in turn %d of saga %s: %s", ErrJournal, record, s.Turns+1, s.ID, why)
}

// countAttempts keeps the number of attempts of a stuck command, so that counting continues when it is sent again.
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

// nonNil keeps an empty reply apart from no reply: protobuf reads an empty bytes field as nil.
func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
