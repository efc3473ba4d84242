package machine

import (
	"fmt"
	"unicode/utf8"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
)

// Limits of one round of a saga. One that asks for more is suspended: it is a loop without an end, or a process that should be several sagas,
// or begin anew with a new request from time to time.
const (
	// maxSteps is how many steps, waits and broadcasts a saga may have.
	maxSteps = 10_000

	// maxBranches is how many branches and scopes may be open at one moment: each needs some memory.
	maxBranches = 2 * maxSteps

	// MaxPayloadBytes is how long one request may be.
	MaxPayloadBytes = 4 << 20

	// maxTurnPayloadBytes is how long the requests may be, altogether, that are sent at one moment.
	maxTurnPayloadBytes = 16 << 20

	// maxHistoryBytes is how long all requests, replies, events and progress may be.
	maxHistoryBytes = 64 << 20
)

// What a wait may ask for at most.
const (
	// maxWaitEvents is how many events one wait may await.
	maxWaitEvents = 100

	// maxAwaits is how many events all waits of a saga may await at one moment.
	maxAwaits = 1000

	// MaxSubjectBytes is how long an event's correlation key may be.
	MaxSubjectBytes = 256
)

// restartHint says what to do against a long history.
const restartHint = "do the rest in child sagas, or begin anew from time to time with saga.Restart"

// checkCall says which rule the call breaks; empty when it breaks none.
func (m *Machine) checkCall(t *Thread, command *contract.Command, known bool, call *Call) string {
	if !known {
		return fmt.Sprintf("%s is no command of a contract that this orchestrator was built with", call.Method)
	}
	if rule := m.checkSize(); rule != "" {
		return rule
	}
	if len(call.Request) > MaxPayloadBytes {
		return fmt.Sprintf("the request of %s has %d bytes, and %d are allowed; keep what is long elsewhere, and send where it is", call.Method, len(call.Request), MaxPayloadBytes)
	}
	if m.turnBytes += len(call.Request); m.turnBytes > maxTurnPayloadBytes {
		return fmt.Sprintf("the requests that are sent at this moment have more than %d bytes altogether; let saga.Each do fewer at once", maxTurnPayloadBytes)
	}
	if command.Broadcast != (call.Participant != "") {
		return fmt.Sprintf("%s goes to everybody who serves it, so it is sent by its generated function alone", call.Method)
	}
	return m.checkOrder(t, command, call)
}

// checkOrder says why a command of this kind must not come here.
func (m *Machine) checkOrder(t *Thread, command *contract.Command, call *Call) string {
	pivot, retriable := command.Kind == treatyv1.CommandKind_COMMAND_KIND_PIVOT, command.Kind == treatyv1.CommandKind_COMMAND_KIND_RETRIABLE
	if back := m.saga.pointOfNoReturn(); back != nil {
		switch {
		case command.Kind == treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE:
			return fmt.Sprintf("%s is compensatable, but behind step %s (%s) nothing is undone any more; put it before that step, or make it retriable",
				call.Method, back.Path(), back.Scheduled.GetMethod())
		case pivot:
			return fmt.Sprintf("%s is a pivot, but step %s (%s) is the saga's point of no return already; a saga has one pivot, before its retriable commands",
				call.Method, back.Path(), back.Scheduled.GetMethod())
		}
		return ""
	}
	if !pivot && !retriable {
		return ""
	}
	if m.saga.Started.GetParent().GetKind() == treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE {
		return fmt.Sprintf("%s can't be undone, but this saga is a step that its parent can undo; make the command compensatable, or give %s another kind",
			call.Method, m.saga.Started.GetDefinition())
	}
	if parallel := m.program.parallelScope(t); parallel != nil {
		return fmt.Sprintf("%s is a point of no return, but it runs beside other branches, which might still fail; put it behind the saga.All or saga.Each at place %s",
			call.Method, parallel.path)
	}
	return ""
}

func (m *Machine) checkBroadcast(t *Thread, broadcast *Broadcast) string {
	command, known := m.config.Command(broadcast.Method)
	switch {
	case !known:
		return fmt.Sprintf("%s is no command of a contract that this orchestrator was built with", broadcast.Method)
	case !command.Broadcast:
		return fmt.Sprintf("%s goes to one participant; its contract says nothing of a broadcast", broadcast.Method)
	}
	if rule := m.checkSize(); rule != "" {
		return rule
	}
	// What it can't do is told before anybody is asked.
	return m.checkOrder(t, command, &Call{Method: broadcast.Method})
}

func (m *Machine) checkWait(wait *Wait) string {
	if rule := m.checkSize(); rule != "" {
		return rule
	}
	if len(wait.Events) > maxWaitEvents {
		return fmt.Sprintf("it awaits %d events at once, and %d are allowed; await them side by side, in branches", len(wait.Events), maxWaitEvents)
	}
	awaits := len(wait.Events)
	for _, open := range m.saga.Waits {
		awaits += len(open.Scheduled.GetEvents())
	}
	if awaits > maxAwaits {
		return fmt.Sprintf("the saga awaits %d events at once, and %d are allowed; let saga.Each do fewer at once", awaits, maxAwaits)
	}
	for _, key := range wait.Events {
		switch {
		case key.GetSubject() == "":
			return fmt.Sprintf("it awaits %s with an empty key, which no event has; a reply probably lacks the field that the key is taken from", key.GetType())
		case !utf8.ValidString(key.GetSubject()):
			return fmt.Sprintf("it awaits %s with a key that isn't UTF-8, which no event has", key.GetType())
		case len(key.GetSubject()) > MaxSubjectBytes:
			return fmt.Sprintf("it awaits %s with a key of %d bytes, and %d are allowed", key.GetType(), len(key.GetSubject()), MaxSubjectBytes)
		case m.config.Event != nil && !m.config.Event(key.GetType()):
			return fmt.Sprintf("%s is no event of a contract that this orchestrator was built with", key.GetType())
		}
	}
	return ""
}

// checkSize says that the journal must not become longer.
func (m *Machine) checkSize() string {
	switch {
	case len(m.saga.Steps)+m.saga.unstepped >= maxSteps:
		return fmt.Sprintf("a saga has at most %d steps, waits and broadcasts; %s", maxSteps, restartHint)
	case m.saga.payloadBytes > maxHistoryBytes:
		return fmt.Sprintf("the requests, replies, events and progress in the saga's journal have %d bytes, and %d are allowed; %s", m.saga.payloadBytes, maxHistoryBytes, restartHint)
	}
	return ""
}
