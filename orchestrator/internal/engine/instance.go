package engine

import (
	"slices"
	"sync"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// instance is a saga in memory: its mailbox, its commands in flight and, while it is loaded, its machine.
//
// An instance has no goroutine. The goroutine that adds an input to the mailbox while nobody runs the instance runs it
// until the mailbox is empty.
type instance struct {
	id   string
	name string // of the saga, with the id

	mu         sync.Mutex
	mailbox    []message
	space      [1]message // of the mailbox, which seldom has more
	running    bool       // a goroutine runs the instance; the fields below "owned" are its own
	dropped    bool       // the register dropped it; it must no longer be used
	deliveries deliveries
	unserved   map[string]string // the methods of broadcasts in which nobody takes part, by their paths
	unwritable error             // why no turn can be stored for now; nil if that isn't known

	// Owned by the goroutine that runs the instance.

	machine       *machine.Machine // nil while the saga isn't loaded
	code          *watched         // of the latest machine; nil while the saga has nothing to do but wait
	slow          func()           // see watched; for the machine that is made next
	turn          *pendingTurn     // the latest one; nil while the saga has nothing to do but wait
	toSend        [1]*delivery     // space for the commands of a turn, of which there is seldom more than one
	failedCommits int              // in a row
	unannounced   bool             // turn may be written although its commit failed; nothing was notified of it
	stored        storedRow        // what the store holds

	ended chan struct{} // closed when the saga has ended or is dropped; nil unless the saga was started by this process
	end   SagaEnd       // without a state when the saga was dropped
}

// storedRow is what the store holds in a saga's row and what changes over its life.
type storedRow struct {
	state      treatyv1.SagaState
	suspension treatyv1.SuspensionReason
	revision   uint64
	due        time.Time
	waiting    bool
	awaits     []journal.Await
}

func storedRowOf(row *journal.Row) storedRow {
	return storedRow{
		state: row.State, suspension: row.Suspension, revision: row.Revision, due: row.Due, waiting: row.Waiting,
		awaits: row.Awaits,
	}
}

func (r storedRow) equal(other storedRow) bool {
	return r.state == other.state && r.suspension == other.suspension && r.revision == other.revision &&
		r.due.Equal(other.due) && r.waiting == other.waiting && slices.Equal(r.awaits, other.awaits)
}

// message is an input in a mailbox.
type message struct {
	input    machine.Input
	answer   chan<- error // receives the error of the turn, or nil once it is durable; nil when nobody waits
	delivery *delivery    // whose command ended with the input; nil for other inputs
}

// reply sends the answer to the goroutine that waits for it, if any.
func (m message) reply(err error) {
	if m.answer != nil {
		m.answer <- err
	}
}

// isDecision returns whether somebody outside of the saga decides something about it, and waits for the answer.
func (m message) isDecision() bool {
	if m.answer == nil {
		return false
	}
	switch m.input.(type) {
	case machine.Cancel, machine.Resume, machine.CommandCompleted, machine.CompensateForParent:
		return true
	default:
		return false
	}
}

// noteUnwritable notes why no turn of the saga can be stored for now, and answers the decisions in its mailbox. Those
// that come later are answered at once, too: nothing was recorded of any of them, and none takes effect later, when its
// caller no longer waits.
func (i *instance) noteUnwritable(cause error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.unwritable = cause
	i.mailbox = slices.DeleteFunc(i.mailbox, func(m message) bool {
		if !m.isDecision() {
			return false
		}
		m.reply(cause)
		return true
	})
}

func newInstance(id string) *instance {
	return &instance{id: id, name: wire.SagaName(id)}
}

// newEntry returns the entry of the instance's next turn.
func (i *instance) newEntry(entry journal.Entry) *journal.Entry {
	if i.turn == nil {
		i.turn = &pendingTurn{done: make(chan struct{}, 1)}
	}
	i.turn.entry = entry
	return &i.turn.entry
}

// maxTurnSpace is the size in bytes of the largest serialized turn whose memory is used again.
const maxTurnSpace = 4 << 10

// turnSpace returns the memory of the latest turn, which the store has written, for the next one.
func (i *instance) turnSpace() []byte {
	if i.turn == nil || cap(i.turn.entry.Data) > maxTurnSpace {
		return nil
	}
	return i.turn.entry.Data[:0]
}

// put adds a message to the mailbox. The caller holds mu.
func (i *instance) put(m message) {
	if len(i.mailbox) == 0 {
		i.mailbox = i.space[:0]
	}
	i.mailbox = append(i.mailbox, m)
}

// takeNext removes the next message from the mailbox. It returns false when the mailbox is empty. The caller holds mu.
func (i *instance) takeNext() (message, bool) {
	if len(i.mailbox) == 0 {
		return message{}, false
	}
	next := i.mailbox[0]
	i.mailbox[0] = message{}
	i.mailbox = i.mailbox[1:]
	if len(i.mailbox) == 0 {
		i.mailbox = nil
	}
	return next, true
}

// putFirst puts messages at the front of the mailbox.
func (i *instance) putFirst(messages ...message) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.mailbox = append(messages, i.mailbox...)
}

// release closes the machine and cancels everything that waits. The caller holds mu and runs the instance.
func (i *instance) release() {
	i.dropped = true
	if i.ended != nil {
		// Callers that wait for the end continue without this instance.
		close(i.ended)
		i.ended = nil
	}
	for d := range i.deliveries.all() {
		d.cancelWait()
	}
	i.deliveries = deliveries{}
	clear(i.unserved)
	i.unload()
}

// unload closes the machine. The saga is loaded again when an input comes.
func (i *instance) unload() {
	if i.machine != nil {
		i.machine.Close()
		i.machine = nil
	}
}

// rest unloads a saga that only waits, and leaves of its commands what the waiting needs. Everything else is read again
// before their next attempts. The caller holds mu, and nobody runs the instance.
func (i *instance) rest() {
	i.unload()
	i.code, i.turn, i.unannounced, i.stored = nil, nil, false, storedRow{}
	for d := range i.deliveries.all() {
		d.request, d.digest = nil, ""
	}
}

// setParent sets the parent in a saga's row: one of another orchestrator, or the one of this store that may compensate
// the saga after it has succeeded.
func setParent(row *journal.Row, parent *treatyv1.Parent) {
	id, _, ok := wire.ParseStepName(parent.GetCommandId())
	if !ok {
		return
	}
	compensates := parent.GetKind() == treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE
	switch {
	case parent.GetLocal() && compensates:
		row.LocalParent = id
	case !parent.GetLocal():
		row.Parent = journal.Parent{Scope: parent.GetScope(), Saga: id, Compensates: compensates}
		if parent.GetSagaStart() != nil {
			row.Parent.Start = parent.GetSagaStart().AsTime()
		}
	}
}

// changedRow returns the saga's row after the turn that was just made, or nil when the store needs no new row.
func (i *instance) changedRow(out machine.Output) *journal.Row {
	saga := i.machine.Saga()
	now := storedRow{
		state: saga.State, revision: saga.Revision, due: i.machine.Due(), awaits: awaitsOf(saga),
		// A saga whose code has to run again isn't waiting: it must be driven even when this process ends before that.
		waiting: i.machine.Waiting() && !out.Reload && !out.WakeAgain,
	}
	if saga.State == treatyv1.SagaState_SAGA_STATE_SUSPENDED {
		now.suspension = saga.Suspension.GetReason()
	}
	// The store knows when the last turn of a saga that runs was made. Of other sagas, it knows what the row says.
	runs := saga.State == treatyv1.SagaState_SAGA_STATE_RUNNING ||
		saga.State == treatyv1.SagaState_SAGA_STATE_COMPENSATING
	if saga.Turns > 1 && runs && now.equal(i.stored) && !out.NewRound {
		return nil
	}
	row := &journal.Row{
		ID: i.id, Definition: saga.Started.GetDefinition(), State: now.state, Suspension: now.suspension,
		Revision: now.revision, Labels: saga.Started.GetLabels(), RequestID: saga.Started.GetRequestId(),
		CreateTime: saga.CreateTime, UpdateTime: saga.UpdateTime, EndTime: saga.EndTime,
		Due: now.due, Waiting: now.waiting, Awaits: now.awaits,
	}
	setParent(row, saga.Started.GetParent())
	return row
}
