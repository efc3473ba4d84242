package engine

import (
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// submit hands a task to a saga. When nobody takes the saga's tasks at that moment, the caller does, until none is left; then the command
// to be sent next, if there is one, is the caller's to send.
func (e *Engine) submit(id string, t task) *flight {
	for {
		inst := e.instance(id)
		inst.mu.Lock()
		if inst.gone {
			inst.mu.Unlock()
			continue
		}
		return e.enqueue(inst, t)
	}
}

// enqueue is submit for an instance at hand, whose lock the caller holds and enqueue releases.
func (e *Engine) enqueue(inst *instance, t task) *flight {
	inst.tasks = append(inst.tasks, t)
	if inst.busy {
		inst.mu.Unlock()
		return nil
	}
	inst.busy = true
	inst.mu.Unlock()
	return e.run(inst)
}

// instance returns the saga's instance, making one that isn't loaded when there is none.
func (e *Engine) instance(id string) *instance {
	e.mu.Lock()
	defer e.mu.Unlock()
	inst := e.sagas[id]
	if inst == nil {
		inst = newInstance(id)
		e.sagas[id] = inst
	}
	return inst
}

// run takes the saga's tasks until none is left.
func (e *Engine) run(inst *instance) *flight {
	var next *flight
	for {
		inst.mu.Lock()
		if len(inst.tasks) == 0 {
			inst.busy = false
			e.rest(inst)
			inst.mu.Unlock()
			return next
		}
		t := inst.tasks[0]
		inst.tasks[0] = task{}
		inst.tasks = inst.tasks[1:]
		if len(inst.tasks) == 0 {
			inst.tasks = nil
		}
		inst.mu.Unlock()

		flights, err := e.turn(inst, t)
		if errors.Is(err, ErrInDoubt) {
			e.settle(inst, t, err)
			return next
		}
		if errors.Is(err, journal.ErrNotFound) && e.vanish(inst) {
			t.reply(err)
			return next
		}
		if err != nil && t.flight != nil {
			inst.mu.Lock()
			delete(inst.flights, t.flight.key)
			inst.mu.Unlock()
		}
		for _, f := range flights {
			e.launch(next)
			next = f
		}
		t.reply(err)
	}
}

// launch sends a command on a goroutine of its own.
func (e *Engine) launch(f *flight) {
	if f == nil || !e.enter() {
		return
	}
	go func() {
		defer e.leave()
		e.fly(f)
	}()
}

// rest decides what stays in memory of a saga that has nothing to do. The caller holds its lock.
func (e *Engine) rest(inst *instance) {
	if inst.machine == nil || inst.machine.Saga().State != treatyv1.SagaState_SAGA_STATE_RUNNING {
		inst.discoverNothing()
	}
	if len(inst.flights) == 0 && len(inst.discoveries) == 0 {
		inst.forget()
		e.drop(inst)
		return
	}
	for _, f := range inst.flights {
		if !f.dormant {
			return
		}
	}
	if len(inst.discoveries) > 0 {
		return
	}
	inst.unload()
	for _, f := range inst.flights {
		f.request = nil
	}
}

// vanish forgets an instance of a saga that isn't there, before whoever asked for it hears of that, so that a start that follows doesn't find
// it. It returns false when somebody else waits for it, too.
func (e *Engine) vanish(inst *instance) bool {
	inst.mu.Lock()
	defer inst.mu.Unlock()
	if len(inst.tasks) > 0 || len(inst.flights) > 0 {
		return false
	}
	inst.busy = false
	inst.forget()
	e.drop(inst)
	return true
}

// drop takes a saga that was forgotten out of the engine's memory.
func (e *Engine) drop(inst *instance) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.sagas[inst.id] == inst {
		delete(e.sagas, inst.id)
	}
	if e.left != nil {
		e.left[inst.id] = struct{}{}
	}
}

// turn applies one input and makes what comes of it durable; then it returns the commands that are to be sent. After ErrInDoubt the
// machine is unloaded.
func (e *Engine) turn(inst *instance, t task) ([]*flight, error) {
	if err := e.load(inst, t); err != nil {
		return nil, err
	}
	out, err := inst.machine.Apply(e.config.Clock.Now(), t.input)
	if err != nil {
		return nil, err //nolint:wrapcheck // the machine's errors are part of the engine's interface
	}
	if out.Turn != nil {
		if err := e.commit(inst, out); err != nil {
			inst.unload()
			if errors.Is(err, errUnwritable) {
				e.unwritable(inst, t, err)
			}
			return nil, err
		}
	}
	inst.mu.Lock()
	if t.flight != nil {
		delete(inst.flights, t.flight.key)
	}
	if complete, is := t.input.(machine.CommandCompleted); is {
		inst.completed(complete)
	}
	flights := e.perform(inst, out.Effects, sentBefore(t.input))
	inst.mu.Unlock()
	if out.Turn != nil {
		e.tell(inst, out.Turn)
	}
	woken := out.Turn != nil && slices.Contains(inst.commit.entry.Woken, inst.id)
	if out.Reload {
		inst.unload()
	}
	if out.Reload || out.Again || woken {
		inst.mu.Lock()
		inst.tasks = append([]task{{input: machine.Wake{}}}, inst.tasks...)
		inst.mu.Unlock()
		return flights, nil
	}
	if _, wakes := t.input.(machine.Wake); wakes && inst.machine != nil {
		e.lookUp(inst)
	}
	return flights, nil
}

// sentBefore says whether the commands that an input leads to may have been sent before.
func sentBefore(in machine.Input) earlier {
	switch in.(type) {
	case machine.Wake, machine.Resume:
		return true
	default:
		return false
	}
}

// load sees to it that the saga's machine is there.
func (e *Engine) load(inst *instance, t task) error {
	if inst.machine != nil {
		return nil
	}
	if _, starts := t.input.(start); starts {
		return nil
	}
	stored, err := e.config.Store.Load(e.ctx, inst.id)
	if err == nil {
		return e.replay(inst, stored)
	}
	switch {
	case errors.Is(err, journal.ErrNotFound), errors.Is(err, journal.ErrCorrupt):
		return fmt.Errorf("loading saga %s: %w", inst.id, err)
	case t.answer != nil:
		return fmt.Errorf("loading saga %s: %w", inst.id, err)
	}
	// Nobody waits for the answer, and the input must not be lost.
	e.config.Logger.Error("loading a saga; trying again", "saga", "sagas/"+inst.id, "error", err)
	return ErrInDoubt
}

// replay makes the machine of a stored saga.
func (e *Engine) replay(inst *instance, stored *journal.Journal) error {
	if stored.Err != nil {
		e.config.Logger.Error("reading a saga's journal; the saga stands still", "saga", "sagas/"+inst.id, "error", stored.Err)
		return fmt.Errorf("reading saga %s: %w", inst.id, stored.Err)
	}
	definition := stored.Row.Definition
	if !stored.Row.EndTime.IsZero() {
		definition = "" // one that has ended needs no code
	}
	m := e.newMachine(inst.id, definition, skipped(stored))
	for _, turn := range stored.Turns {
		if err := replayTurn(m, turn); err != nil {
			m.Close()
			e.config.Logger.Error("reading a saga's journal; the saga stands still", "saga", "sagas/"+inst.id, "error", err)
			return err
		}
	}
	inst.machine, inst.state, inst.due, inst.waiting, inst.awaits = m, stored.Row.State, stored.Row.Due, stored.Row.Waiting, stored.Row.Awaits
	return nil
}

func replayTurn(m *machine.Machine, stored journal.Turn) error {
	turn := new(treatyv1.Turn)
	if err := proto.Unmarshal(stored.Data, turn); err != nil {
		return fmt.Errorf("%w: turn %d: %w", journal.ErrCorrupt, stored.Number, err)
	}
	return m.Replay(turn) //nolint:wrapcheck // names saga, turn and record itself
}

func (e *Engine) newMachine(id, definition string, skipped uint64) *machine.Machine {
	return machine.New(machine.Config{
		ID: id, Code: e.config.Definitions[definition], Command: e.config.Catalog.Command, Environment: e.config.Logger,
		Event: e.config.isEvent, Skipped: skipped,
	})
}

func (c *Config) isEvent(name string) bool {
	_, is := c.Catalog.EventType(name)
	return is
}

// abandonAll answers everybody who waits for a saga that can't be loaded, and forgets it.
func (e *Engine) abandonAll(inst *instance, err error) {
	inst.mu.Lock()
	tasks := inst.tasks
	inst.tasks, inst.busy = nil, false
	inst.forget()
	e.drop(inst)
	inst.mu.Unlock()
	for _, t := range tasks {
		t.reply(err)
	}
}

// tell lets everybody know what is durable now.
func (e *Engine) tell(inst *instance, turn *treatyv1.Turn) {
	saga := inst.machine.Saga()
	reopened := false
	for _, record := range turn.GetRecords() {
		switch r := record.GetKind().(type) {
		case *treatyv1.Record_SagaStarted:
			e.config.Observer.SagaStarted(saga)
		case *treatyv1.Record_SagaSuspended:
			e.config.Logger.Warn("saga suspended", "saga", "sagas/"+inst.id, "reason", r.SagaSuspended.GetReason().String(), "message", r.SagaSuspended.GetMessage())
			e.config.Observer.SagaSuspended(saga, r.SagaSuspended.GetReason())
		case *treatyv1.Record_CompensationDecided:
			reopened = saga.Reply != nil
		}
	}
	if reopened {
		e.config.Observer.SagaReopened(saga)
	}
	if saga.Final() {
		e.tellParent(saga)
		e.config.Observer.SagaEnded(saga)
		if inst.ended != nil {
			inst.end = endOf(saga)
			close(inst.ended)
			inst.ended = nil
		}
	}
	e.watchers.tell(inst.id)
}

func endOf(saga *machine.Saga) SagaEnd {
	return SagaEnd{State: saga.State, Reply: saga.Reply, Failure: saga.Decided.GetFailure()}
}
