package engine

import (
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/admission"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// sender sends commands to participants: it makes attempts, waits between them, and puts the end of each command into
// its saga's mailbox.
type sender struct {
	config *Config
	work   *work
	gate   *gate
	loader *loader
	driver *driver // takes the ends of commands

	failures repeated // to load sagas
	unasked  repeated // participants that can't be asked
}

// deliveriesOf returns a new delivery for each effect that has none yet. The slice is valid until the instance's next
// turn. The caller holds the lock of the instance and runs it.
func (s *sender) deliveriesOf(inst *instance, effects []machine.Effect) []*delivery {
	deliveries := inst.toSend[:0]
	for _, effect := range effects {
		if effect.Discover != nil {
			s.discover(inst, effect.Discover)
			continue
		}
		key := deliveryKey{effect.Step.Path(), effect.Direction}
		d := inst.deliveries.get(key)
		switch {
		case d != nil && effect.Abandon:
			d.abandon()
		case d != nil:
		case effect.Abandon:
			// An earlier process may have sent it.
			inst.put(message{input: machine.CommandEnded{
				Step: key.step, Direction: key.direction, Outcome: machine.Unknown,
				Failure: cancelled("the saga started to compensate while the command was in flight"),
			}})
		default:
			d = s.newDelivery(inst, effect)
			inst.deliveries.add(d)
			deliveries = append(deliveries, d)
		}
	}
	return deliveries
}

func (s *sender) newDelivery(inst *instance, effect machine.Effect) *delivery {
	step, saga := effect.Step, inst.machine.Saga()
	d := &delivery{
		inst: inst, key: deliveryKey{step.Path(), effect.Direction}, call: s.callConfig(effect),
		request: requestOf(effect), digest: digestOf(step), sagaStart: saga.CreateTime,
		trace: saga.Started.GetTrace(), kind: step.Scheduled.GetKind(),
		claim:       claimOf(saga, effect.Direction),
		participant: step.Scheduled.GetParticipant(), attempts: int(step.Attempts),
		// An earlier process, or an earlier delivery, may have sent it.
		inDoubt:   !effect.Fresh || saga.KnownToParticipant(step.Path(), effect.Direction),
		patient:   saga.KnownToParticipant(step.Path(), effect.Direction),
		startTime: s.config.now(),
	}
	if effect.Direction == Action && d.kind == treatyv1.CommandKind_COMMAND_KIND_PIVOT {
		d.deadline = inst.machine.DeadlineOf(step.Path())
	}
	scheduled := step.ScheduleTime
	if effect.Direction == Compensation {
		d.attempts = int(step.CompensationAttempts)
		scheduled = step.CompensationScheduleTime
	}
	if d.call.CompleteWithin > 0 {
		d.completeBy = scheduled.Add(d.call.CompleteWithin)
	}
	return d
}

// callConfig returns how a command is called. A command whose contract is no longer linked is called with the defaults,
// so that the saga can still be compensated.
func (s *sender) callConfig(effect machine.Effect) *contract.CallConfig {
	method := effect.Step.Scheduled.GetMethod()
	if effect.Direction == Compensation {
		method = effect.Step.Scheduled.GetCompensation().GetMethod()
		if compensation, known := s.config.Catalog.Compensation(method); known {
			return &compensation.CallConfig
		}
	} else if command, known := s.config.Catalog.Command(method); known {
		return &command.CallConfig
	}
	return &contract.CallConfig{
		Method: method, Timeout: contract.DefaultTimeout,
		Retry: contract.Retry{InitialInterval: contract.DefaultInitialInterval,
			MaxInterval: contract.DefaultMaxInterval},
	}
}

func requestOf(effect machine.Effect) []byte {
	step := effect.Step
	switch {
	case effect.Direction == Action:
		return nonNil(step.Scheduled.GetRequest())
	case len(step.EditedRequest) > 0:
		return step.EditedRequest
	default:
		plan := step.Scheduled.GetCompensation()
		return nonNil(contract.CompensationRequest(plan, step.Scheduled.GetRequest(), step.Reply))
	}
}

// digestOf returns the digest of a step's action, for both directions.
func digestOf(step *machine.Step) string {
	if step.Digest != "" {
		return step.Digest
	}
	return wire.RequestDigest(step.Scheduled.GetMethod(), step.Scheduled.GetRequest())
}

// sendAsync sends a command on its own goroutine. It does nothing for nil.
func (s *sender) sendAsync(d *delivery) {
	if d != nil {
		s.work.spawn(func() { s.send(d) })
	}
}

// send makes attempts until the command has ended or has to wait, and continues with the command that follows in the
// same saga. It does nothing for nil.
func (s *sender) send(d *delivery) { s.sendWith(nil, d) }

// sendWith is send for a command that has a slot for its next attempt already, unless that is nil.
func (s *sender) sendWith(slot *admission.Slot, d *delivery) {
	for ; d != nil && !s.work.Closed(); slot = nil {
		end, ended := s.attempt(d, slot)
		if !ended {
			return
		}
		d.inst.mu.Lock()
		if d.ended || d.inst.dropped {
			d.inst.mu.Unlock()
			return
		}
		d.ended = true
		d = s.driver.enqueue(d.inst, message{input: end, delivery: d})
	}
}

// attempt makes one attempt, or asks the participant what became of the earlier ones. It returns the command's end, or
// false when the command waits for its next attempt.
func (s *sender) attempt(d *delivery, slot *admission.Slot) (machine.CommandEnded, bool) {
	defer func() { slot.Release() }()
	d.inst.mu.Lock()
	switch {
	case d.ended || d.inst.dropped || s.gate.closed(): // it was completed before it was sent, or isn't sent any more
		d.inst.mu.Unlock()
		return machine.CommandEnded{}, false
	case d.held:
		d.waiting, d.due = true, true
		d.inst.mu.Unlock()
		return machine.CommandEnded{}, false
	case d.abandoned && !d.closing:
		if end, final := s.giveUp(d); final {
			d.inst.mu.Unlock()
			return end, true
		}
	case s.tooLate(d):
		d.held, d.waiting, d.due = true, true, true
		d.inst.mu.Unlock()
		s.work.spawn(func() { s.driver.wake(d.inst.id) })
		return machine.CommandEnded{}, false
	}
	if slot == nil {
		var admitted bool
		if slot, admitted = s.admit(d); !admitted {
			d.inst.mu.Unlock()
			return machine.CommandEnded{}, false
		}
	}
	closing := d.closing
	if !closing {
		d.attempts++
	}
	d.sending = true
	attempt := &Attempt{
		Saga: d.inst.name, Step: d.key.step, Direction: d.key.direction, Number: d.attempts,
		Scope: s.config.Scope, Epoch: s.config.Store.Epoch(), Slot: slot, Call: d.call, Request: d.request,
		Trace: d.trace, Kind: d.kind, Participant: d.participant, Digest: d.digest, SagaStart: d.sagaStart,
	}
	d.inst.mu.Unlock()

	if closing {
		return s.askToClose(d, attempt)
	}
	answer := s.config.Dispatcher.Attempt(s.work.ctx, attempt)

	d.inst.mu.Lock()
	defer d.inst.mu.Unlock()
	d.last = answer
	if end, final := s.outcome(d, answer); final {
		return end, true // it counts as being sent until its end is taken, so that nobody withdraws it meanwhile
	}
	d.sending = false
	switch {
	case s.work.ctx.Err() != nil || d.ended || s.gate.closed():
	case d.closing:
		s.waitForRetry(d, 0)
	case answer.Pending > 0:
		d.patience = answer.Pending
		s.waitForCompletion(d)
	default:
		s.waitForRetry(d, s.config.Dispatcher.Delay(d.call, d.attempts, answer))
	}
	return machine.CommandEnded{}, false
}

// outcome returns how the command ended with this answer, or false when it isn't over. The caller holds the lock.
func (s *sender) outcome(d *delivery, answer Answer) (machine.CommandEnded, bool) {
	if answer.Repeated || answer.Evidence == NoEvidence && answer.Outcome != treatyv1.Outcome_OUTCOME_DONE {
		d.inDoubt = true
	}
	if s.work.ctx.Err() != nil && answer.Outcome == treatyv1.Outcome_OUTCOME_UNKNOWN {
		return machine.CommandEnded{}, false // Stop cut the attempt off; the next process sends the command again
	}
	switch answer.Halt {
	case HaltOtherRequest:
		return d.commandEnded(machine.OtherRequest), true
	case HaltPurged:
		return d.commandEnded(machine.Purged), true
	case HaltReplaced:
		s.gate.replaced(replacedBy(d.call.Method, answer.Failure), answer.LaterEpoch)
		return machine.CommandEnded{}, false
	case NoHalt:
	}
	switch answer.Outcome {
	case treatyv1.Outcome_OUTCOME_DONE:
		return d.commandEnded(machine.Done), true
	case treatyv1.Outcome_OUTCOME_REFUSED:
		if answer.Evidence == Settled {
			d.inDoubt = false
		}
		if d.inDoubt && d.decisive() {
			return s.startClosing(d)
		}
		return d.commandEnded(machine.Refused), true
	case treatyv1.Outcome_OUTCOME_MISDEPLOYED: // the dispatcher has logged it
		if !d.abandoned {
			return machine.CommandEnded{}, false
		}
	}
	overdue := d.exhausted(s.config.now())
	if answer.Pending > 0 {
		overdue = !d.patient && !d.completeBy.IsZero() && !s.config.now().Before(d.completeBy)
	}
	if d.abandoned || overdue {
		return s.giveUp(d)
	}
	return machine.CommandEnded{}, false
}

// admit asks for a slot. It makes the command wait and returns false when there is none. The caller holds the lock.
func (s *sender) admit(d *delivery) (*admission.Slot, bool) {
	to := Destination{Method: d.call.Method, Participant: d.participant}
	slot, wait := s.config.Dispatcher.Admit(to, d.call, d.claim, func(slot *admission.Slot) {
		if !s.work.spawn(func() { s.resume(d, slot) }) {
			slot.Release()
		}
	})
	if wait == nil {
		return slot, true
	}
	d.waiting, d.queued, d.waitsLong = true, true, wait.Long
	d.pauseStart, d.stopWait, d.isDown = s.config.now(), wait.Cancel, wait.Held
	d.whyParked, d.whyDown = wait.Why, wait.Unreachable
	if wait.Long {
		s.driver.evictIfIdle(d.inst)
	}
	return nil, false
}

// claimOf returns how urgent a saga's next command is.
func claimOf(saga *machine.Saga, direction Direction) admission.Claim {
	claim := admission.Claim{Definition: saga.Started.GetDefinition(), Start: saga.CreateTime, Class: admission.Begun}
	switch {
	case direction == Compensation:
		claim.Class = admission.Undo
	case len(saga.Steps) > 0 && saga.Steps[0].State == treatyv1.StepState_STEP_STATE_SCHEDULED:
		claim.Class = admission.First
	}
	return claim
}

// waitForRetry makes the command wait for its next attempt. The caller holds the lock.
func (s *sender) waitForRetry(d *delivery, delay time.Duration) {
	d.waiting, d.waitsLong = true, delay >= s.config.EvictAfter
	s.startTimer(d, delay)
	if d.waitsLong {
		s.driver.evictIfIdle(d.inst)
	}
}

// waitForCompletion makes an accepted command wait for its completion. The caller holds the lock.
func (s *sender) waitForCompletion(d *delivery) {
	now := s.config.now()
	wait := d.patience
	if !d.completeBy.IsZero() {
		wait = min(wait, max(d.completeBy.Sub(now), 0))
	}
	if !d.waiting {
		d.pauseStart = now
	}
	d.waiting, d.accepted, d.promised, d.waitsLong = true, true, true, true
	s.startTimer(d, wait)
	s.driver.evictIfIdle(d.inst)
}

func (s *sender) startTimer(d *delivery, wait time.Duration) {
	d.nextTime = s.config.now().Add(wait)
	timer := time.AfterFunc(wait, func() { s.resume(d, nil) })
	d.stopWait = func() { timer.Stop() }
}

// postpone restarts the wait of an accepted command, since its participant still works on it. It returns false when no
// such command is in memory.
func (s *sender) postpone(inst *instance, key deliveryKey) bool {
	inst.mu.Lock()
	defer inst.mu.Unlock()
	d := inst.deliveries.get(key)
	if inst.dropped || d == nil || d.ended || d.abandoned {
		return false
	}
	if d.waiting && d.accepted {
		d.stopWait()
		s.waitForCompletion(d)
	}
	return true
}

// resume sends a command that waited, with a slot if it waited for one.
func (s *sender) resume(d *delivery, slot *admission.Slot) {
	defer slot.Release()
	if !s.work.Enter() {
		return
	}
	defer s.work.Leave()
	d.inst.mu.Lock()
	if !d.waiting || d.ended || d.inst.dropped {
		d.inst.mu.Unlock()
		return
	}
	if d.held {
		d.due = true // a turn in the making decides whether it is still to be sent
		d.inst.mu.Unlock()
		return
	}
	if d.queued || d.accepted {
		d.paused += s.config.now().Sub(d.pauseStart)
	}
	d.waiting, d.queued, d.accepted, d.waitsLong = false, false, false, false
	d.stopWait, d.isDown, d.whyParked, d.whyDown, d.nextTime = nil, nil, nil, nil, time.Time{}
	unloaded := d.request == nil
	d.inst.mu.Unlock()
	if unloaded && !s.reloadRequest(d) {
		return
	}
	s.sendWith(slot, d)
}

// reloadRequest reads the request again, which was dropped while the command waited. When the store doesn't answer, the
// command waits longer.
func (s *sender) reloadRequest(d *delivery) bool {
	saga, err := s.loader.read(s.work.ctx, d.inst.id)
	d.inst.mu.Lock()
	defer d.inst.mu.Unlock()
	if err == nil {
		if step := saga.Step(d.key.step); step != nil {
			d.request = requestOf(machine.Effect{Step: step, Direction: d.key.direction})
			d.digest = digestOf(step)
			return true
		}
	}
	if leftOut, due := s.failures.due(); due {
		s.config.Logger.Error("loading a saga whose command is due failed; trying again",
			"saga", d.inst.name, "error", err, "left_out", leftOut)
	}
	s.waitForRetry(d, s.config.EvictAfter)
	return false
}
