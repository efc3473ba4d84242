package sagatest

import (
	"fmt"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// beside is how long before or after a timer an event arrives.
const beside = time.Microsecond

// timer is a wait or a scope whose time is limited.
type timer struct {
	path  string // with that of the child saga before it
	what  string // "wait" or "scope"
	due   time.Time
	ended bool
}

// heldEvent is an event that was held back until just before or after a timer.
type heldEvent struct {
	fault   fault
	publish func() error
	armed   bool
}

// note learns which timers began and ended in a turn.
func (d *drive) note(child string, turn *treatyv1.Turn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, record := range turn.GetRecords() {
		switch r := record.GetKind().(type) {
		case *treatyv1.Record_WaitScheduled:
			if r.WaitScheduled.GetDue() != nil {
				due := r.WaitScheduled.GetDue().AsTime()
				d.begin(timer{path: child + r.WaitScheduled.GetWait(), what: "wait", due: due})
			}
		case *treatyv1.Record_ScopeOpened:
			due := r.ScopeOpened.GetDeadline().AsTime()
			d.begin(timer{path: child + r.ScopeOpened.GetScope(), what: "scope", due: due})
		case *treatyv1.Record_WaitEnded:
			for _, t := range d.timers {
				t.ended = t.ended || t.path == child+r.WaitEnded.GetWait()
			}
		}
	}
	d.arm()
}

// begin adds a timer, unless it is there because its turn was stored before a crash.
func (d *drive) begin(began timer) {
	for _, t := range d.timers {
		if t.path == began.path {
			return
		}
	}
	d.timers = append(d.timers, &began)
}

// hold holds an event back. Its timer may not have begun yet.
func (d *drive) hold(f fault, publish func() error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.held = append(d.held, &heldEvent{fault: f, publish: publish})
	d.arm()
}

// arm lets events that were held back arrive at their timers, if those have begun.
func (d *drive) arm() {
	for _, h := range d.held {
		if h.armed || h.fault.timer > len(d.timers) {
			continue
		}
		at := d.timers[h.fault.timer-1].due.Add(beside)
		if h.fault.kind == eventBefore {
			at = at.Add(-2 * beside)
		}
		d.arrive(h, time.Until(at))
	}
}

// arrive publishes an event after a time, unless the run has ended.
func (d *drive) arrive(h *heldEvent, after time.Duration) {
	h.armed = true
	go func() {
		select {
		case <-time.After(after):
		case <-d.over:
			return
		}
		if err := h.publish(); err != nil && d.world.t.Context().Err() == nil {
			d.problem("publishing an event: %v", err)
		}
	}()
}

// release publishes the events whose timers never began. It returns false if there are none.
func (d *drive) release() (some bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, h := range d.held {
		if !h.armed {
			some = true
			d.arrive(h, 0)
		}
	}
	return some
}

// besides returns the faults of an event, once the run has ended: just before and after each timer that ran when it
// was published, or began later.
func (d *drive) besides(at place) (faults []fault) {
	running := d.running[at]
	for i, t := range d.timers {
		if i < len(running) && !running[i] {
			continue // it had ended
		}
		faults = append(faults,
			fault{place: at, kind: eventBefore, timer: i + 1, at: t.name()},
			fault{place: at, kind: eventAfter, timer: i + 1, at: t.name()})
	}
	return append(faults, fault{place: at, kind: eventNever})
}

// name names a timer for the failure matrix.
func (t *timer) name() string { return fmt.Sprintf("%s %s", t.what, t.path) }
