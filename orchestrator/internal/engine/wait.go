package engine

import (
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// awaitsOf is what a saga awaits, as the store is to know it.
func awaitsOf(saga *machine.Saga) []journal.Await {
	if saga.State != treatyv1.SagaState_SAGA_STATE_RUNNING || len(saga.Waits) == 0 {
		return nil
	}
	var awaits []journal.Await
	for _, wait := range saga.Waits {
		for _, key := range wait.Scheduled.GetEvents() {
			awaits = append(awaits, journal.Await{Type: key.GetType(), Subject: key.GetSubject(), After: saga.Taken(key)})
		}
	}
	return awaits
}

// lookUp hands a saga the next event that it awaits, if there is one. The caller takes the saga's tasks.
func (e *Engine) lookUp(inst *instance) {
	awaits := awaitsOf(inst.machine.Saga())
	if len(awaits) == 0 {
		return
	}
	event, index, err := e.config.Store.NextEvent(e.ctx, inst.id, awaits)
	if err != nil {
		e.config.Logger.Error("looking for an event that a saga awaits; trying again", "saga", "sagas/"+inst.id, "error", err)
		e.config.Clock.AfterFunc(lookAgain, func() { e.due.add(inst.id) })
		return
	}
	if event == nil {
		return
	}
	in := machine.EventReceived{
		Key: &treatyv1.EventKey{Type: awaits[index].Type, Subject: awaits[index].Subject},
		Arrived: &treatyv1.EventArrived{
			Position: event.Position, Source: event.Source, Id: event.ID, Time: timestamppb.New(event.Time), Data: event.Data,
		},
	}
	inst.mu.Lock()
	inst.tasks = append([]task{{input: in}}, inst.tasks...)
	inst.mu.Unlock()
}

// lookAgain is how long an event is waited for that the store didn't hand out.
const lookAgain = time.Second

// discover finds out to whom a broadcast goes. The caller holds the lock of the instance and takes its tasks.
func (e *Engine) discover(inst *instance, wanted *machine.Discover) {
	if before := inst.discoveries[wanted.Path]; before != nil {
		before.cancel()
		delete(inst.discoveries, wanted.Path)
	}
	service, _, _ := strings.Cut(wanted.Method, "/")
	found, cancel := e.config.Dispatcher.Discover(service, func() {
		go func() {
			inst.mu.Lock()
			delete(inst.discoveries, wanted.Path)
			inst.mu.Unlock()
			e.background(inst.id, machine.Wake{})
		}()
	})
	if found.Known {
		inst.tasks = append(inst.tasks, task{input: machine.Discovered{Path: wanted.Path, Participants: found.Participants}})
		return
	}
	e.config.Logger.Warn("a broadcast waits until every configured participant has said what it serves", "saga", "sagas/"+inst.id, "service", service)
	if inst.discoveries == nil {
		inst.discoveries = make(map[string]*discovery)
	}
	inst.discoveries[wanted.Path] = &discovery{method: wanted.Method, silent: found.Silent, cancel: cancel}
}

// discovery is the question to whom a broadcast goes.
type discovery struct {
	method string
	silent []string // who haven't said what they serve
	cancel func()
}

// dueAtOnce is how many sagas are woken at once.
const dueAtOnce = 64

// dueSagas are sagas that are to be woken. However many become due at one moment, few are loaded at once.
type dueSagas struct {
	wake func(id string)

	mu      sync.Mutex
	waiting []string
	known   map[string]struct{} // those in waiting
	working int
}

func (d *dueSagas) add(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, known := d.known[id]; known {
		return
	}
	if d.known == nil {
		d.known = make(map[string]struct{})
	}
	d.known[id] = struct{}{}
	d.waiting = append(d.waiting, id)
	if d.working < dueAtOnce {
		d.working++
		go d.work()
	}
}

func (d *dueSagas) work() {
	for {
		d.mu.Lock()
		if len(d.waiting) == 0 {
			d.working--
			d.waiting, d.known = nil, nil
			d.mu.Unlock()
			return
		}
		id := d.waiting[0]
		d.waiting = d.waiting[1:]
		delete(d.known, id)
		d.mu.Unlock()
		d.wake(id)
	}
}

// wake lets a saga do what is due, and sends what comes of it, like what is recovered, a bounded number at a time.
func (e *Engine) wake(id string) {
	if !e.enter() {
		return
	}
	defer e.leave()
	e.relaunch(e.submit(id, task{input: machine.Wake{}}))
}
