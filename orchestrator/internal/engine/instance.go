package engine

import (
	"slices"
	"sync"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// instance is one saga in memory. Its inputs are taken one at a time by whoever finds it at rest: there is no goroutine of its own.
type instance struct {
	id string

	mu      sync.Mutex
	tasks   []task
	busy    bool // somebody takes its tasks; the machine and the row belong to them
	gone    bool // forgotten by the engine: not to be used any more
	flights map[flightKey]*flight

	machine *machine.Machine // nil while it isn't loaded
	commit  commit
	doubts  int                // commits in a row that failed
	doubted bool               // nobody was told of the turn in commit, which may be written
	state   treatyv1.SagaState // of the row in the store
	due     time.Time          // of the row in the store
	waiting bool               // of the row in the store
	awaits  []journal.Await    // of the row in the store

	discoveries map[string]*discovery // the questions to whom broadcasts go, by their paths

	ended chan struct{} // closed when the saga has ended or is forgotten; nil unless it was started here
	end   SagaEnd       // without a state when it was forgotten
}

// task is an input on its way to a saga.
type task struct {
	input  machine.Input
	answer chan<- error // takes what became of it; nil when nobody waits
	flight *flight      // whose outcome it is; nil for other inputs
}

func (t task) reply(err error) {
	if t.answer != nil {
		t.answer <- err
	}
}

func newInstance(id string) *instance {
	return &instance{id: id, commit: commit{done: make(chan struct{}, 1)}}
}

// forget drops the machine and everything that waits. The caller holds mu and owns the machine.
func (i *instance) forget() {
	i.gone = true
	if i.ended != nil {
		// Whoever waits for the end goes on waiting without this instance.
		close(i.ended)
		i.ended = nil
	}
	for key, f := range i.flights {
		f.ground()
		delete(i.flights, key)
	}
	i.discoverNothing()
	i.unload()
}

// discoverNothing takes back all questions to whom broadcasts go. The caller holds mu.
func (i *instance) discoverNothing() {
	for path, asked := range i.discoveries {
		asked.cancel()
		delete(i.discoveries, path)
	}
}

func (i *instance) unload() {
	if i.machine != nil {
		i.machine.Close()
		i.machine = nil
	}
}

// row is what the store is to know of the saga when its row changes with the turn that was just made; nil when it doesn't.
func (i *instance) row(out machine.Output) *journal.Row {
	saga, due, waiting := i.machine.Saga(), i.machine.Due(), i.machine.Waiting()
	// A saga whose code is yet to run again needs driving, also when the process ends before that.
	waiting = waiting && !out.Reload && !out.Again
	awaits := awaitsOf(saga)
	same := saga.State == i.state && due.Equal(i.due) && waiting == i.waiting && slices.Equal(awaits, i.awaits)
	if saga.Turns > 1 && same && !out.First {
		return nil
	}
	return &journal.Row{
		ID: i.id, Definition: saga.Started.GetDefinition(), State: saga.State, Labels: saga.Started.GetLabels(),
		CreateTime: saga.CreateTime, UpdateTime: saga.UpdateTime, EndTime: saga.EndTime, Due: due, Waiting: waiting, Awaits: awaits,
	}
}
