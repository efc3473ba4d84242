package engine

import (
	"bytes"
	"errors"
	"time"

	"google.golang.org/protobuf/proto"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

const (
	// doubtBackoff is the first wait after a commit failed and the store answered; it doubles with each further
	// failure.
	doubtBackoff = 100 * time.Millisecond

	// maxReloadBackoff is the longest wait between two reads of a saga while the store doesn't answer.
	maxReloadBackoff = 5 * time.Second
)

// resolveDoubt finds out whether a turn whose commit failed was written. It answers the caller with cause, reads the
// saga again until the store answers, sends the pending commands, and applies the input again, which changes nothing if
// it was recorded. It continues on its own goroutine, which runs the instance meanwhile.
func (d *driver) resolveDoubt(inst *instance, m message, cause error) {
	m.reply(cause)
	again := []message{{input: machine.Wake{}}}
	if _, starts := m.input.(machine.Start); !starts && m.answer == nil {
		again = append(again, m)
	}
	inst.failedCommits++
	if inst.failedCommits > 1 || errors.Is(cause, journal.ErrFull) || errors.Is(cause, journal.ErrReadOnly) {
		inst.noteUnwritable(cause)
	}
	inst.putFirst(again...)
	if !d.work.spawn(func() { d.reload(inst) }) {
		d.abandon(inst, ErrStopping)
	}
}

// reload reads an instance from the store and runs it.
func (d *driver) reload(inst *instance) {
	wait := doubtBackoff << min(inst.failedCommits, 6)
	// the store answers reads but fails writes: a full disk, for example
	if inst.failedCommits > 1 && !d.work.pause(wait) {
		d.abandon(inst, ErrStopping)
		return
	}
	for ; ; wait = min(2*wait, maxReloadBackoff) {
		stored, err := d.config.Store.Load(d.work.ctx, inst.id)
		switch {
		case err == nil:
			if err = d.loader.replay(inst, stored); err == nil {
				d.catchUp(inst, stored)
			}
		case errors.Is(err, journal.ErrKey):
			d.suspendForKey(inst, err)
		case !errors.Is(err, journal.ErrNotFound):
			if d.work.pause(wait) {
				continue
			}
		}
		if err != nil {
			d.abandon(inst, err)
			return
		}
		d.sender.send(d.run(inst))
		return
	}
}

// catchUp does what follows a commit, for a commit that failed although the turn was written.
func (d *driver) catchUp(inst *instance, stored *journal.Journal) {
	inst.mu.Lock()
	for delivery := range inst.deliveries.all() {
		if step := inst.machine.Saga().Step(delivery.key.step); !delivery.ended &&
			(step == nil || !inFlight(step, delivery.key.direction)) {
			delivery.end()
		}
	}
	inst.mu.Unlock()
	d.waker.timers.set(inst.id, stored.Row.Due)
	if !inst.unannounced {
		return
	}
	last, entry := stored.Turns[len(stored.Turns)-1], &inst.turn.entry
	if last.Number != entry.Turn || !bytes.Equal(last.Data, entry.Data) {
		return
	}
	inst.unannounced = false
	if turn := new(treatyv1.Turn); proto.Unmarshal(last.Data, turn) == nil {
		d.notifier.turnCommitted(inst, turn)
	}
	if len(entry.Events) > 0 {
		d.waker.eventsFound(d.work.ctx)
	}
}
