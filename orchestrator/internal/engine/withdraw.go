package engine

import "time"

// withdraw holds a command back if it was certainly never sent, and returns whether it was. A turn in the making may
// then decide that the command is no longer needed: the decision and the sending exclude each other. The command stays
// held until release is called after the turn.
func (i *instance) withdraw(step string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	d := i.deliveries.get(deliveryKey{step, Action})
	if !d.neverSent() {
		return false
	}
	d.held = true
	return true
}

// neverSent returns whether the action of a step was certainly never sent.
func (i *instance) neverSent(step string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.deliveries.get(deliveryKey{step, Action}).neverSent()
}

// neverSent returns whether the command was certainly never sent. A missing delivery says nothing. The caller holds the
// lock.
func (d *delivery) neverSent() bool {
	return d != nil && !d.inDoubt && !d.sending && !d.ended && !d.closing
}

// release ends the deliveries of held commands that the turn has withdrawn, and lets the others continue. Call it when
// it is known whether the turn is stored. The caller holds the instance's lock and runs it.
func (s *sender) release(inst *instance) {
	for d := range inst.deliveries.all() {
		if !d.held {
			continue
		}
		d.held = false
		if inst.machine != nil {
			if step := inst.machine.Saga().Step(d.key.step); step == nil || !inFlight(step, d.key.direction) {
				d.end()
				continue
			}
		}
		if d.due {
			d.due = false
			s.work.spawn(func() { s.resume(d, nil) })
		}
	}
}

// tooLate returns, once, whether a pivot that was never sent is due after the deadline of its saga or of a scope around
// it. Then the saga decides first whether it is still to be sent. The caller holds the lock.
func (s *sender) tooLate(d *delivery) bool {
	if d.deadline.IsZero() || d.inDoubt || s.config.now().Before(d.deadline) {
		return false
	}
	d.deadline = time.Time{}
	return true
}
