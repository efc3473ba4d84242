package engine

import (
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// flight is a command on its way: from its durable intent to its recorded end, over all attempts that this process makes. Between attempts
// it costs a timer and no goroutine.
type flight struct {
	inst *instance
	key  flightKey
	call *contract.CallConfig

	// The rest is guarded by inst.mu.

	request   []byte // nil while the saga is unloaded
	trace     *treatyv1.TraceAnchor
	kind      treatyv1.CommandKind
	undoes    int // the number of the action's last attempt, for a compensation
	attempts  int
	last      Answer
	maybe     bool // an attempt may have been executed
	abandoned bool // no further attempt
	settled   bool // its end is on the way to the saga

	waiting   bool // for a timer or for its participant
	dormant   bool // waiting, and for long
	parked    bool // waiting for its participant, which is down
	accepted  bool // by its participant, which completes it later
	next      time.Time
	stop      func() // takes back what it waits for
	began     time.Time
	pausedAt  time.Time     // when it was parked or accepted
	pausedFor time.Duration // altogether; it doesn't count against the command's policy

	participant string        // of a broadcast
	patience    time.Duration // how long it waits for a completion or a heartbeat
	completeBy  time.Time     // when an accepted command is given up; zero means never
}

// flightKey tells the commands of one saga apart.
type flightKey struct {
	step      string
	direction machine.Direction
}

// perform makes a flight of each effect that has none yet, and returns the new ones. The caller holds the lock of the instance and owns
// its machine.
func (e *Engine) perform(inst *instance, effects []machine.Effect, maybe earlier) []*flight {
	if len(effects) == 0 {
		return nil
	}
	var flights []*flight
	for _, effect := range effects {
		if effect.Discover != nil {
			e.discover(inst, effect.Discover)
			continue
		}
		key := flightKey{effect.Step.Path(), effect.Direction}
		f := inst.flights[key]
		switch {
		case f != nil && effect.Abandon:
			f.abandon()
		case f != nil:
		case effect.Abandon:
			// It was sent by an earlier process, if at all.
			inst.tasks = append(inst.tasks, task{input: machine.CommandEnded{
				Step: key.step, Direction: key.direction, Outcome: machine.Unknown,
				Failure: &treatyv1.Failure{Code: codeCancelled, Message: "the saga was turned around while the command was under way"},
			}})
		default:
			f = &flight{
				inst: inst, key: key, call: e.callOf(effect), request: requestOf(effect), trace: inst.machine.Saga().Started.GetTrace(),
				kind: effect.Step.Scheduled.GetKind(), attempts: int(effect.Step.Attempts),
				maybe: bool(maybe), began: e.config.Clock.Now(), participant: effect.Step.Scheduled.GetParticipant(),
			}
			scheduled := effect.Step.ScheduleTime
			if effect.Direction == Compensation {
				f.undoes, f.attempts = f.attempts, int(effect.Step.CompensationAttempts)
				scheduled = effect.Step.CompensationScheduleTime
			}
			if f.call.CompleteWithin > 0 {
				f.completeBy = scheduled.Add(f.call.CompleteWithin)
			}
			if inst.flights == nil {
				inst.flights = make(map[flightKey]*flight, 1)
			}
			inst.flights[key] = f
			flights = append(flights, f)
		}
	}
	return flights
}

// earlier says whether an earlier process, or an earlier flight, may have sent the command.
type earlier bool

// callOf finds how a command is called. A contract that isn't linked any more must not keep a saga from being undone: then the
// defaults hold.
func (e *Engine) callOf(effect machine.Effect) *contract.CallConfig {
	method := effect.Step.Scheduled.GetMethod()
	if effect.Direction == Compensation {
		method = effect.Step.Scheduled.GetCompensation().GetMethod()
		if compensation, known := e.config.Catalog.Compensation(method); known {
			return &compensation.CallConfig
		}
	} else if command, known := e.config.Catalog.Command(method); known {
		return &command.CallConfig
	}
	return &contract.CallConfig{
		Method: method, Timeout: contract.DefaultTimeout,
		Retry: contract.Retry{InitialInterval: contract.DefaultInitialInterval, MaxInterval: contract.DefaultMaxInterval},
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
		return nonNil(contract.CompensationRequest(step.Scheduled.GetCompensation(), step.Scheduled.GetRequest(), step.Reply))
	}
}

func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// fly makes attempts until the command has ended or has to wait, and goes on with the command that follows in the same saga.
func (e *Engine) fly(f *flight) {
	for f != nil && !e.stopping.Load() {
		outcome, ended := e.attempt(f)
		if !ended {
			return
		}
		f.inst.mu.Lock()
		if f.settled || f.inst.gone {
			f.inst.mu.Unlock()
			return
		}
		f.settled = true
		f = e.enqueue(f.inst, task{input: outcome, flight: f})
	}
}

// attempt makes one attempt. It returns the command's end, or false when the command waits for its next attempt.
func (e *Engine) attempt(f *flight) (machine.CommandEnded, bool) {
	f.inst.mu.Lock()
	if f.settled || f.inst.gone {
		f.inst.mu.Unlock() // it was completed from outside before it was sent
		return machine.CommandEnded{}, false
	}
	if f.abandoned {
		defer f.inst.mu.Unlock()
		return f.outcome(f.verdictOnGivingUp()), true
	}
	if e.park(f) {
		f.inst.mu.Unlock()
		return machine.CommandEnded{}, false
	}
	f.attempts++
	attempt := &Attempt{
		Saga: "sagas/" + f.inst.id, Step: f.key.step, Direction: f.key.direction, Number: f.attempts,
		Epoch: e.config.Store.Epoch(), Call: f.call, Request: f.request, Trace: f.trace,
		Kind: f.kind, Undoes: f.undoes, Participant: f.participant,
	}
	f.inst.mu.Unlock()

	result := e.config.Dispatcher.Attempt(e.ctx, attempt)

	f.inst.mu.Lock()
	defer f.inst.mu.Unlock()
	f.last = result
	verdict := e.judge(f, result)
	if verdict == 0 {
		switch {
		case e.ctx.Err() != nil || f.settled:
		case result.Pending > 0:
			f.patience = result.Pending
			e.pend(f)
		default:
			e.retry(f, e.config.Dispatcher.Delay(f.call, f.attempts, result))
		}
		return machine.CommandEnded{}, false
	}
	return f.outcome(verdict), true
}

// judge says how the command ended with this attempt; 0 when it goes on.
func (e *Engine) judge(f *flight, result Answer) machine.Outcome {
	switch result.Outcome {
	case treatyv1.Outcome_OUTCOME_DONE:
		return machine.Done
	case treatyv1.Outcome_OUTCOME_REFUSED:
		return machine.Refused
	case treatyv1.Outcome_OUTCOME_MISDEPLOYED:
		e.config.Logger.Error("a participant doesn't serve a command; trying again", "saga", "sagas/"+f.inst.id, "step", f.key.step,
			"method", f.call.Method, "attempt", f.attempts, "error", result.Failure.GetMessage())
		if !f.abandoned {
			return 0
		}
	case treatyv1.Outcome_OUTCOME_CONFLICT, treatyv1.Outcome_OUTCOME_THROTTLED:
	default:
		if e.ctx.Err() != nil {
			return 0 // cut off by Stop: the next process sends it again
		}
		f.maybe = true
		if result.Pending > 0 && !f.abandoned && (f.completeBy.IsZero() || e.config.Clock.Now().Before(f.completeBy)) {
			return 0
		}
		if result.Pending > 0 {
			return f.verdictOnGivingUp()
		}
	}
	if f.abandoned || f.exhausted(e.config.Clock.Now()) {
		return f.verdictOnGivingUp()
	}
	return 0
}

// exhausted says whether the command's policy says to give up. Time for which the participant was known to be down doesn't count.
func (f *flight) exhausted(now time.Time) bool {
	limit := f.call.Retry.GiveUpAfter
	return limit > 0 && now.Sub(f.began)-f.pausedFor >= limit
}

// verdictOnGivingUp is unknown when an attempt may have been executed. An action that certainly wasn't counts as refused; a
// compensation never does, since refusing one is a decision.
func (f *flight) verdictOnGivingUp() machine.Outcome {
	if f.maybe || f.key.direction == Compensation {
		return machine.Unknown
	}
	return machine.Refused
}

func (f *flight) outcome(verdict machine.Outcome) machine.CommandEnded {
	out := machine.CommandEnded{
		Step: f.key.step, Direction: f.key.direction, Outcome: verdict, Attempts: uint32(f.attempts),
	}
	if verdict == machine.Done {
		out.Reply = nonNil(f.last.Reply)
		return out
	}
	out.Failure = f.last.Failure
	if out.Failure == nil {
		out.Failure = &treatyv1.Failure{Code: codeCancelled, Message: "the command was not sent: the saga had turned around"}
	}
	return out
}

// park lets the command wait for its participant when that is down. The caller holds the lock.
func (e *Engine) park(f *flight) bool {
	cancel, parked := e.config.Dispatcher.Parked(Destination{Method: f.call.Method, Participant: f.participant}, func() { go e.awaken(f) })
	if !parked {
		return false
	}
	f.waiting, f.parked, f.dormant, f.pausedAt, f.stop = true, true, true, e.config.Clock.Now(), cancel
	e.restIfIdle(f.inst)
	return true
}

// retry lets the command wait for its next attempt. The caller holds the lock.
func (e *Engine) retry(f *flight, delay time.Duration) {
	f.waiting, f.dormant, f.next = true, delay >= e.config.EvictAfter, e.config.Clock.Now().Add(delay)
	stop := e.config.Clock.AfterFunc(delay, func() { e.awaken(f) })
	f.stop = func() { stop() }
	if f.dormant {
		e.restIfIdle(f.inst)
	}
}

func (e *Engine) restIfIdle(inst *instance) {
	if !inst.busy {
		e.rest(inst)
	}
}

// awaken goes on with a command that waited.
func (e *Engine) awaken(f *flight) {
	if !e.enter() {
		return
	}
	defer e.leave()
	f.inst.mu.Lock()
	if !f.waiting || f.settled || f.inst.gone {
		f.inst.mu.Unlock()
		return
	}
	if f.parked || f.accepted {
		f.pausedFor += e.config.Clock.Now().Sub(f.pausedAt)
	}
	f.waiting, f.parked, f.accepted, f.dormant, f.stop, f.next = false, false, false, false, nil, time.Time{}
	unloaded := f.request == nil
	f.inst.mu.Unlock()
	if unloaded && !e.refill(f) {
		return
	}
	e.fly(f)
}

// refill reads again what was dropped while the command waited. When the store doesn't answer, the command waits on.
func (e *Engine) refill(f *flight) bool {
	saga, err := e.read(e.ctx, f.inst.id)
	f.inst.mu.Lock()
	defer f.inst.mu.Unlock()
	if err == nil {
		if step := saga.Step(f.key.step); step != nil {
			f.request = requestOf(machine.Effect{Step: step, Direction: f.key.direction})
			return true
		}
	}
	e.config.Logger.Error("loading a saga whose command is due; trying again", "saga", "sagas/"+f.inst.id, "error", err)
	e.retry(f, e.config.EvictAfter)
	return false
}

// abandon sees to it that no further attempt is made. The caller holds the lock and takes the saga's tasks.
func (f *flight) abandon() {
	if f.abandoned || f.settled {
		return
	}
	f.abandoned = true
	if f.waiting {
		f.ground()
		f.settled = true
		f.inst.tasks = append(f.inst.tasks, task{input: f.outcome(f.verdictOnGivingUp()), flight: f})
	}
}

// ground ends a wait. The caller holds the lock.
func (f *flight) ground() {
	f.waiting = false
	if f.stop != nil {
		f.stop()
		f.stop = nil
	}
}

// codeCancelled is gRPC's code for what was called off.
const codeCancelled = 1
