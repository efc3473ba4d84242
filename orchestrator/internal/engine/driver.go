package engine

import (
	"errors"
	"slices"
	"strings"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// driver runs the turns of sagas. It takes the inputs in a saga's mailbox one by one, applies each to the saga's
// machine, has the turn written, and hands the commands that follow from it to the sender.
//
// Methods that return a *delivery return a command that the caller must send: the last command of a run is sent by the
// goroutine that ran the saga, which saves a hand-off.
type driver struct {
	work     *work
	gate     *gate
	horizons *horizons
	register *register
	loader   *loader
	writer   *writer
	waker    *waker
	sender   *sender
	notifier *notifier
	config   *Config
}

// submit puts a message into a saga's mailbox. When nobody runs the saga, the caller runs it until its mailbox is
// empty.
func (d *driver) submit(id string, m message) *delivery {
	for {
		inst := d.register.get(id)
		inst.mu.Lock()
		if inst.dropped {
			inst.mu.Unlock()
			continue
		}
		return d.enqueue(inst, m)
	}
}

// enqueue is submit for an instance whose lock the caller holds. It releases the lock.
func (d *driver) enqueue(inst *instance, m message) *delivery {
	if inst.running && inst.unwritable != nil && m.isDecision() {
		cause := inst.unwritable
		inst.mu.Unlock()
		m.reply(cause)
		return nil
	}
	inst.put(m)
	if inst.running {
		inst.mu.Unlock()
		return nil
	}
	inst.running = true
	inst.mu.Unlock()
	return d.run(inst)
}

// deliver puts an input for which nobody waits into a saga's mailbox, and sends the command that follows. The input
// isn't lost when the store fails.
func (d *driver) deliver(id string, input machine.Input) {
	if d.gate.closed() || !d.work.Enter() {
		return
	}
	defer d.work.Leave()
	d.sender.send(d.submit(id, message{input: input}))
}

// wake lets a saga do what is due. The commands that follow are sent a bounded number at a time, as after a recovery.
func (d *driver) wake(id string) {
	if d.gate.closed() || !d.work.Enter() {
		return
	}
	defer d.work.Leave()
	d.sender.sendAsync(d.submit(id, message{input: machine.Wake{}}))
}

// run takes the messages in an instance's mailbox until it is empty.
func (d *driver) run(inst *instance) *delivery {
	var next *delivery
	for {
		inst.mu.Lock()
		m, ok := inst.takeNext()
		if !ok {
			inst.running = false
			d.evictIfIdle(inst)
			inst.mu.Unlock()
			return next
		}
		inst.mu.Unlock()

		deliveries, err := d.turn(inst, m)
		if errors.Is(err, ErrInDoubt) {
			d.resolveDoubt(inst, m, err)
			return next
		}
		if errors.Is(err, journal.ErrNotFound) && d.dropMissing(inst) {
			m.reply(err)
			return next
		}
		if err != nil && m.delivery != nil {
			inst.mu.Lock()
			inst.deliveries.remove(m.delivery.key)
			inst.mu.Unlock()
		}
		for _, delivery := range deliveries {
			d.sender.sendAsync(next)
			next = delivery
		}
		m.reply(err)
	}
}

// turn applies one message and makes the turn that follows durable. It returns the commands to be sent. After
// ErrInDoubt the machine is unloaded.
func (d *driver) turn(inst *instance, m message) ([]*delivery, error) {
	if err := d.loader.ensureLoaded(inst, m); err != nil {
		d.suspendForKey(inst, err)
		return nil, err
	}
	now := d.config.now()
	if _, starts := m.input.(machine.Start); starts {
		now = d.horizons.startTime(now)
	}
	wasLong := inst.machine.Saga().IsLong()
	out, err := inst.machine.Apply(now, m.input)
	if inst.code.wasCut.Load() {
		// The turn is made again by the next process.
		inst.unload()
		d.release(inst)
		return nil, ErrStopping
	}
	if err != nil {
		d.release(inst)
		return nil, err
	}
	if out.Turn != nil {
		if err := d.writer.write(inst, out); err != nil {
			inst.unload()
			if errors.Is(err, errUnwritable) {
				d.suspendUnwritable(inst, m, err)
			}
			if !errors.Is(err, ErrInDoubt) {
				d.release(inst)
			}
			return nil, err
		}
	}
	inst.mu.Lock()
	if out.Turn != nil {
		inst.unwritable = nil
	}
	d.sender.release(inst)
	if m.delivery != nil {
		inst.deliveries.remove(m.delivery.key)
	}
	if completed, is := m.input.(machine.CommandCompleted); is {
		inst.endCompleted(completed)
	}
	deliveries := d.sender.deliveriesOf(inst, out.Effects)
	inst.mu.Unlock()
	if out.Turn != nil {
		d.notifier.turnCommitted(inst, out.Turn)
		d.warnIfLong(inst, wasLong)
	}
	woken := out.Turn != nil && slices.Contains(inst.turn.entry.Woken, inst.id)
	if out.Reload {
		inst.unload()
	}
	if out.Reload || out.WakeAgain || woken {
		inst.putFirst(message{input: machine.Wake{}})
		return deliveries, nil
	}
	if _, wakes := m.input.(machine.Wake); wakes && inst.machine != nil {
		if event, found := d.waker.nextEvent(d.work.ctx, inst.machine.Saga()); found {
			inst.putFirst(message{input: event})
			return deliveries, nil
		}
	}
	if inst.machine != nil && inst.machine.Stalled() {
		d.continueStalled(inst)
	}
	return deliveries, nil
}

// warnIfLong logs that a saga has become so long that it will be suspended if it goes on.
func (d *driver) warnIfLong(inst *instance, wasLong bool) {
	saga := inst.machine.Saga()
	if wasLong || !saga.IsLong() {
		return
	}
	if warning := saga.Warning(); warning != "" {
		d.config.Logger.Warn("a saga has become long", "saga", inst.name, "definition", saga.Started.GetDefinition(),
			"why", warning)
	}
}

// continueStalled gives a saga that is catching up the next event that it awaits, or suspends it if there is none.
func (d *driver) continueStalled(inst *instance) {
	if event, found := d.waker.nextEvent(d.work.ctx, inst.machine.Saga()); found {
		inst.putFirst(message{input: event})
		return
	}
	inst.putFirst(message{input: machine.Stalled{}})
}

// release lets the commands continue that a turn without effect may have held back.
func (d *driver) release(inst *instance) {
	inst.mu.Lock()
	defer inst.mu.Unlock()
	d.sender.release(inst)
}

// suspendUnwritable suspends a saga whose turn can't be stored, so that an operator sees that it doesn't continue.
func (d *driver) suspendUnwritable(inst *instance, m message, err error) {
	d.config.Logger.Error("a turn can't be stored; suspending the saga", "saga", inst.name, "error", err)
	switch m.input.(type) {
	case machine.Start, machine.TurnUnwritable:
		return // the caller of Start receives the error
	}
	inst.putFirst(message{input: machine.TurnUnwritable{Message: strings.ToValidUTF8(err.Error(), "\uFFFD")}})
}

// evictIfIdle drops or unloads an instance that has nothing to do. The caller holds its lock; nobody runs it.
func (d *driver) evictIfIdle(inst *instance) {
	if inst.running {
		return
	}
	if inst.machine == nil || inst.machine.Saga().State != treatyv1.SagaState_SAGA_STATE_RUNNING {
		clear(inst.unserved)
	}
	if inst.deliveries.len() == 0 && len(inst.unserved) == 0 {
		d.register.drop(inst)
		return
	}
	for delivery := range inst.deliveries.all() {
		if !delivery.waitsLong {
			return
		}
	}
	if len(inst.unserved) > 0 {
		return
	}
	inst.rest()
}

// dropMissing drops the instance of a saga that isn't in the store before replying to the caller, so a later start
// won't find the stale instance. It returns false when the instance is needed: others wait for it.
func (d *driver) dropMissing(inst *instance) bool {
	inst.mu.Lock()
	defer inst.mu.Unlock()
	if len(inst.mailbox) > 0 || inst.deliveries.len() > 0 {
		return false
	}
	inst.running = false
	d.register.drop(inst)
	return true
}

// abandon drops an instance that can't be loaded, and answers all messages in its mailbox with the error.
func (d *driver) abandon(inst *instance, err error) {
	inst.mu.Lock()
	mailbox := inst.mailbox
	inst.mailbox, inst.running = nil, false
	d.register.drop(inst)
	inst.mu.Unlock()
	for _, m := range mailbox {
		m.reply(err)
	}
}
