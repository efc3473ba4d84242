package machine

import (
	"fmt"
	"unicode/utf8"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
)

const (
	// MaxPayloadBytes is the size of the largest request, and of the largest reply of a saga.
	MaxPayloadBytes = 4 << 20

	// replyRoom is the room that a compensatable command leaves for its reply: the request of its compensation, which
	// has both the command's request and its reply, is no larger than MaxPayloadBytes, which is what gRPC servers
	// receive by default.
	replyRoom = 64 << 10

	// MaxSubjectBytes is the size of the longest correlation key of an event.
	MaxSubjectBytes = 256

	// MaxEventBytes is the size of the largest event.
	MaxEventBytes = 1 << 20
)

// Limits of one round of a saga. A saga that exceeds one is suspended. It contains an endless loop, or should be
// several sagas or restart from time to time.
const (
	// maxSteps limits the number of steps, waits and broadcasts.
	maxSteps = 10_000

	// maxBranches limits the number of branches and scopes that are open at the same time, because each needs memory.
	maxBranches = 2 * maxSteps

	// maxTurnPayloadBytes limits the size of all requests in one turn.
	maxTurnPayloadBytes = 16 << 20

	// maxHistoryBytes limits the size of all requests, replies, events and progress in the journal.
	maxHistoryBytes = 64 << 20

	// maxWaitEvents limits the number of events that one wait awaits.
	maxWaitEvents = 100

	// maxAwaits limits the number of events that all open waits of a saga await.
	maxAwaits = 1000
)

// restartHint is the advice for a journal that is too long.
const restartHint = "move work to child sagas, or restart from time to time with saga.Restart"

// checkCall returns the rule that a call breaks, or nothing.
func (m *Machine) checkCall(t *Thread, command *contract.Command, known bool, call *Call) string {
	if !known {
		return unknownCommand(call.Method)
	}
	if rule := checkTypes(command, call); rule != "" {
		return rule
	}
	if rule := m.checkSize(); rule != "" {
		return rule
	}
	if len(call.Request) > MaxPayloadBytes {
		return fmt.Sprintf("the request of %s has %d bytes; at most %d are allowed; "+
			"store the data elsewhere and send a reference",
			call.Method, len(call.Request), MaxPayloadBytes)
	}
	if rule := checkUndoSize(command, call); rule != "" {
		return rule
	}
	if m.turnBytes += len(call.Request); m.turnBytes > maxTurnPayloadBytes {
		return fmt.Sprintf("the requests sent at the same time have more than %d bytes; limit saga.Each with "+
			"saga.AtMost",
			maxTurnPayloadBytes)
	}
	if command.Broadcast != (call.Participant != "") {
		return fmt.Sprintf("%s is a broadcast; send it with its generated function", call.Method)
	}
	return m.checkOrder(t, command, call.Method)
}

// checkUndoSize returns why the request of a call can't be compensated, or nothing.
func checkUndoSize(command *contract.Command, call *Call) string {
	if command.Compensation == nil {
		return ""
	}
	undo := contract.CompensationSize(command.Compensation.Plan(), len(call.Request), replyRoom)
	if undo <= MaxPayloadBytes {
		return ""
	}
	return fmt.Sprintf("the request of %s has %d bytes; at most %d are allowed, because the request of its "+
		"compensation has it, too, with the reply; store the data elsewhere and send a reference",
		call.Method, len(call.Request), MaxPayloadBytes-(undo-len(call.Request)))
}

// replyFits reports whether the compensation of a step can be sent if the step's reply has this size.
func replyFits(step *Step, reply int) bool {
	plan := step.Scheduled.GetCompensation()
	return plan.GetReplyField() == 0 ||
		contract.CompensationSize(plan, len(step.Scheduled.GetRequest()), reply) <= MaxPayloadBytes
}

// replyTooLarge returns the error for a reply with which the compensation of a step can't be sent, or nil.
func replyTooLarge(step *Step, reply int) error {
	if replyFits(step, reply) {
		return nil
	}
	return fmt.Errorf("%w: its request would have more than %d bytes, since the action's request has %d and the reply "+
		"%d", ErrReplyTooLarge, MaxPayloadBytes, len(step.Scheduled.GetRequest()), reply)
}

// undoTooLarge reports whether the derived request of a step's compensation is too large to be sent.
func undoTooLarge(step *Step) bool {
	return len(step.EditedRequest) == 0 && contract.CompensationSize(
		step.Scheduled.GetCompensation(), len(step.Scheduled.GetRequest()), len(step.Reply)) > MaxPayloadBytes
}

// checkTypes returns why the messages of a call aren't those of its command, or nothing.
func checkTypes(command *contract.Command, call *Call) string {
	switch {
	case call.NilRequest:
		return call.Method + " was sent nil; send a message, even if it is empty"
	case command.Input != nil && call.RequestType != "" && call.RequestType != command.Input.FullName():
		return fmt.Sprintf("%s takes a %s, but it was sent a %s; use its generated function", call.Method,
			command.Input.FullName(), call.RequestType)
	case command.Output != nil && call.ReplyType != "" && call.ReplyType != command.Output.FullName():
		return fmt.Sprintf("%s returns a %s, but its reply is read as a %s; use its generated function", call.Method,
			command.Output.FullName(), call.ReplyType)
	}
	return ""
}

// checkReply returns the rule that the reply of the saga breaks, or nothing.
func (m *Machine) checkReply(reply []byte) string {
	if len(reply) > MaxPayloadBytes {
		return fmt.Sprintf("its reply has %d bytes; at most %d are allowed, because no caller could read it; "+
			"store the data elsewhere and return a reference", len(reply), MaxPayloadBytes)
	}
	if err := m.checkPublishable(m.saga.Started.GetDefinition(), reply); err != nil {
		return fmt.Sprintf("its reply is an event that can't be published: %v", err)
	}
	return ""
}

func (m *Machine) checkPublishable(method string, reply []byte) error {
	if m.config.Publishable == nil {
		return nil
	}
	return m.config.Publishable(method, reply)
}

func unknownCommand(method string) string {
	return method + " is not a command of a contract that this orchestrator was built with"
}

// checkOrder returns why a command of this kind must not be sent here, or nothing.
func (m *Machine) checkOrder(t *Thread, command *contract.Command, method string) string {
	pivot := command.Kind == treatyv1.CommandKind_COMMAND_KIND_PIVOT
	retriable := command.Kind == treatyv1.CommandKind_COMMAND_KIND_RETRIABLE
	if rule := m.checkChild(command, method); rule != "" || m.saga.mustSucceed() {
		return rule
	}
	if step := m.saga.pointOfNoReturn(); step != nil {
		switch {
		case command.Kind == treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE:
			return fmt.Sprintf("%s is compensatable, but the saga can't compensate after step %s (%s); "+
				"send it before that step, or make it retriable", method, step.Path(), step.Scheduled.GetMethod())
		case pivot:
			return fmt.Sprintf("%s is a pivot, but step %s (%s) is already the saga's point of no return; "+
				"a saga has one pivot, before its retriable commands", method, step.Path(), step.Scheduled.GetMethod())
		}
		return ""
	}
	if !pivot && !retriable {
		return ""
	}
	if parallel := m.program.parallelScope(t); parallel != nil {
		return fmt.Sprintf("%s is a point of no return, but a parallel branch might still fail; "+
			"send it after the saga.All or saga.Each at position %s", method, parallel.path)
	}
	return ""
}

// checkChild returns why a command doesn't fit the kind with which the saga's parent has sent it, or nothing.
func (m *Machine) checkChild(command *contract.Command, method string) string {
	definition := m.saga.Started.GetDefinition()
	undoable := command.Kind == treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE
	reads := command.Kind == treatyv1.CommandKind_COMMAND_KIND_QUERY
	switch m.saga.Started.GetParent().GetKind() {
	case treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE:
		if !undoable && !reads {
			return fmt.Sprintf("%s can't be compensated, but the saga's parent may compensate this saga; "+
				"make the command compensatable, or give %s another kind", method, definition)
		}
	case treatyv1.CommandKind_COMMAND_KIND_QUERY:
		if !reads {
			return fmt.Sprintf("%s changes state, but the saga's parent has sent this saga as a query, which it never "+
				"compensates; make the command a query, or give %s another kind", method, definition)
		}
	case treatyv1.CommandKind_COMMAND_KIND_RETRIABLE:
		if command.Kind != treatyv1.CommandKind_COMMAND_KIND_RETRIABLE && !reads {
			return fmt.Sprintf("%s isn't retriable, but the saga's parent has sent this saga as a retriable command, "+
				"so the saga must succeed; make the command retriable, or give %s another kind", method, definition)
		}
	}
	return ""
}

// checkBroadcast returns the rule that a broadcast breaks, or nothing. It is called before the participants are
// discovered.
func (m *Machine) checkBroadcast(t *Thread, broadcast *Broadcast) string {
	command, known := m.config.Command(broadcast.Method)
	switch {
	case !known:
		return unknownCommand(broadcast.Method)
	case !command.Broadcast:
		return fmt.Sprintf("%s is not a broadcast in its contract; it goes to one participant", broadcast.Method)
	}
	if rule := m.checkSize(); rule != "" {
		return rule
	}
	return m.checkOrder(t, command, broadcast.Method)
}

// checkWait returns the rule that a wait breaks, or nothing.
func (m *Machine) checkWait(wait *Wait) string {
	if rule := m.checkSize(); rule != "" {
		return rule
	}
	if len(wait.Events) > maxWaitEvents {
		return fmt.Sprintf("it awaits %d events; at most %d are allowed; await them in several branches",
			len(wait.Events), maxWaitEvents)
	}
	awaits := len(wait.Events)
	for _, open := range m.saga.Waits {
		awaits += len(open.Scheduled.GetEvents())
	}
	if awaits > maxAwaits {
		return fmt.Sprintf("the saga awaits %d events; at most %d are allowed; limit saga.Each with saga.AtMost",
			awaits, maxAwaits)
	}
	for _, key := range wait.Events {
		if rule := m.checkKey(key); rule != "" {
			return rule
		}
	}
	return ""
}

func (m *Machine) checkKey(key *treatyv1.EventKey) string {
	switch {
	case key.GetSubject() == "":
		return fmt.Sprintf("it awaits %s with an empty key, which no event has; "+
			"probably the message that the key comes from lacks the field", key.GetType())
	case !utf8.ValidString(key.GetSubject()):
		return fmt.Sprintf("it awaits %s with a key that isn't UTF-8, which no event has", key.GetType())
	case len(key.GetSubject()) > MaxSubjectBytes:
		return fmt.Sprintf("it awaits %s with a key of %d bytes; at most %d are allowed",
			key.GetType(), len(key.GetSubject()), MaxSubjectBytes)
	case m.config.Event != nil:
		if _, is := m.config.Event(key.GetType()); !is {
			return key.GetType() + " is not an event of a contract that this orchestrator was built with"
		}
	}
	return ""
}

// checkSize returns why the journal must not become longer, or nothing.
func (m *Machine) checkSize() string {
	switch {
	case len(m.saga.Steps)+m.saga.unstepped >= maxSteps:
		return fmt.Sprintf("a saga has at most %d steps, waits and broadcasts; %s", maxSteps, restartHint)
	case m.saga.payloadBytes > maxHistoryBytes:
		return fmt.Sprintf("the requests, replies, events and progress in the saga's journal have %d bytes; "+
			"at most %d are allowed; %s", m.saga.payloadBytes, maxHistoryBytes, restartHint)
	}
	return ""
}

// IsLong returns whether the round's journal has half of the steps or payloads that are allowed.
func (s *Saga) IsLong() bool {
	return len(s.Steps)+s.unstepped >= maxSteps/2 || s.payloadBytes > maxHistoryBytes/2
}

// Warning says that a saga that hasn't ended will be suspended for the length of its journal, and what to do about its
// code. It is empty until IsLong.
func (s *Saga) Warning() string {
	if s.Final() || !s.IsLong() {
		return ""
	}
	return fmt.Sprintf("its journal is long: %d of at most %d steps, waits and broadcasts, and %d of at most %d bytes "+
		"of requests, replies, events and progress; a saga that exceeds one of them is suspended; %s",
		len(s.Steps)+s.unstepped, maxSteps, s.payloadBytes, maxHistoryBytes, restartHint)
}
