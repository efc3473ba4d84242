package engine

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// commit makes a turn durable.
func (e *Engine) commit(inst *instance, out machine.Output) error {
	data, err := proto.Marshal(out.Turn)
	if err != nil {
		return fmt.Errorf("%w: serializing a turn of saga %s: %w", errUnwritable, inst.id, err)
	}
	row := inst.row(out)
	inst.commit.entry = journal.Entry{
		Saga: inst.id, Turn: inst.machine.Saga().Turns, Data: data, Row: row, First: out.First, Events: e.eventsOf(inst.machine.Saga(), out.Turn),
	}
	if err := inst.commit.entry.Validate(); err != nil {
		// It must not reach the group: the store would turn down everybody else's turns with it, again and again.
		return fmt.Errorf("%w: %w", errUnwritable, err)
	}
	err = e.committer.commit(&inst.commit)
	switch {
	case err != nil:
		inst.doubted = true
		e.config.Logger.Error("committing a turn; reading the saga again", "saga", "sagas/"+inst.id, "turn", inst.commit.entry.Turn, "error", err)
		return fmt.Errorf("%w: %w", ErrInDoubt, err)
	case errors.Is(inst.commit.entry.Err, journal.ErrExists), errors.Is(inst.commit.entry.Err, journal.ErrPurged):
		return inst.commit.entry.Err
	case inst.commit.entry.Err != nil:
		e.config.Logger.Error("somebody else wrote to this saga; reading it again", "saga", "sagas/"+inst.id, "error", inst.commit.entry.Err)
		return fmt.Errorf("%w: %w", ErrInDoubt, inst.commit.entry.Err)
	}
	inst.doubts, inst.doubted = 0, false
	if row != nil {
		inst.state, inst.due, inst.waiting, inst.awaits = row.State, row.Due, row.Waiting, row.Awaits
		e.timers.arm(inst.id, row.Due)
	}
	if len(inst.commit.entry.Events) > 0 || len(inst.commit.entry.Woken) > 0 {
		e.published(&inst.commit.entry)
	}
	return nil
}

// errUnwritable says that a turn can't be stored, whatever the state of the store. Nothing was written.
var errUnwritable = errors.New("the turn can't be stored")

// unwritable suspends a saga whose next turn can't be stored, so that it doesn't stand still unseen.
func (e *Engine) unwritable(inst *instance, t task, err error) {
	e.config.Logger.Error("a turn can't be stored; suspending the saga", "saga", "sagas/"+inst.id, "error", err)
	switch t.input.(type) {
	case start, machine.Unwritable:
		return // whoever starts it hears of it
	}
	inst.mu.Lock()
	defer inst.mu.Unlock()
	suspend := task{input: machine.Unwritable{Message: strings.ToValidUTF8(err.Error(), "\uFFFD")}}
	inst.tasks = append([]task{suspend}, inst.tasks...)
}

// settle finds out what became of a saga whose commit failed: it reads the saga again until the store answers, does what is outstanding, and
// takes the input once more, which changes nothing if it was recorded. It goes on behind the caller's back, who still takes the
// saga's tasks.
func (e *Engine) settle(inst *instance, t task, cause error) {
	t.reply(cause)
	again := []task{{input: machine.Wake{}}}
	if _, starts := t.input.(start); !starts && t.answer == nil {
		again = append(again, t)
	}
	inst.mu.Lock()
	inst.tasks = append(again, inst.tasks...)
	inst.mu.Unlock()
	inst.doubts++
	if !e.enter() {
		e.abandonAll(inst, ErrStopping)
		return
	}
	go func() {
		defer e.leave()
		wait := 100 * time.Millisecond << min(inst.doubts, 6)
		if inst.doubts > 1 && !e.pause(wait) { // the store answers, but takes nothing: a full disk, say
			e.abandonAll(inst, ErrStopping)
			return
		}
		for ; ; wait = min(2*wait, 5*time.Second) {
			stored, err := e.config.Store.Load(e.ctx, inst.id)
			switch {
			case err == nil:
				if err = e.replay(inst, stored); err == nil {
					e.catchUp(inst, stored)
				}
			case !errors.Is(err, journal.ErrNotFound):
				if e.pause(wait) {
					continue
				}
			}
			if err != nil {
				e.abandonAll(inst, err)
				return
			}
			e.fly(e.run(inst))
			return
		}
	}()
}

// catchUp does what would have followed a commit whose answer was lost, if it was written.
func (e *Engine) catchUp(inst *instance, stored *journal.Journal) {
	inst.mu.Lock()
	for key, f := range inst.flights {
		if step := inst.machine.Saga().Step(key.step); !f.settled && (step == nil || !underWay(step, key.direction)) {
			f.ground()
			f.settled = true
			delete(inst.flights, key)
		}
	}
	inst.mu.Unlock()
	e.timers.arm(inst.id, stored.Row.Due)
	last, entry := stored.Turns[len(stored.Turns)-1], &inst.commit.entry
	if !inst.doubted || last.Number != entry.Turn || !bytes.Equal(last.Data, entry.Data) {
		return
	}
	inst.doubted = false
	if turn := new(treatyv1.Turn); proto.Unmarshal(last.Data, turn) == nil {
		e.tell(inst, turn)
	}
	if len(entry.Events) == 0 {
		return
	}
	e.eventWatchers.tell()
	// Whom its events woke isn't known; they are due in the store.
	due, err := e.config.Store.Due(e.ctx, e.config.Clock.Now(), 1<<10)
	if err != nil {
		return // the next scan finds them
	}
	for _, d := range due {
		e.due.add(d.Saga)
	}
}

// pause waits; it returns false when the engine is being stopped meanwhile.
func (e *Engine) pause(d time.Duration) bool {
	if e.stopping.Load() {
		return false
	}
	elapsed := make(chan struct{})
	stop := e.config.Clock.AfterFunc(d, func() { close(elapsed) })
	select {
	case <-elapsed:
		return !e.stopping.Load()
	case <-e.ctx.Done():
		stop()
		return false
	}
}
