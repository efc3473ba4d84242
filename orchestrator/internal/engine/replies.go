package engine

import (
	"errors"
	"fmt"
	"log/slog"

	"google.golang.org/protobuf/reflect/protoreflect"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// The ids of events that the orchestrator publishes itself. Their source is the name of the saga or of the step.
const (
	// EventIDReply is the id of the reply of a step, or of a saga.
	EventIDReply = "reply"

	// EventIDCompensation is the id of the reply of a compensation.
	EventIDCompensation = "compensation"
)

// replyEvents finds the replies that are events. They are published in the commit that records them.
type replyEvents struct {
	byMethod map[string]*contract.EventType
	logger   *slog.Logger
}

func newReplyEvents(catalog *contract.Catalog, logger *slog.Logger) *replyEvents {
	r := &replyEvents{byMethod: make(map[string]*contract.EventType), logger: logger}
	add := func(method string, output protoreflect.MessageDescriptor) {
		if event, is := catalog.EventType(string(output.FullName())); is {
			r.byMethod[method] = event
		}
	}
	for command := range catalog.Commands() {
		add(command.Method, command.Output)
	}
	for compensation := range catalog.Compensations() {
		add(compensation.Method, compensation.Output)
	}
	for definition := range catalog.SagaDefinitions() {
		add(definition.Definition, definition.Output)
	}
	return r
}

// errEventTooLarge says that a reply is larger than an event may be.
var errEventTooLarge = errors.New("it breaks the limits of events")

// check returns an error if the reply of a method is an event that is too large to be published. A reply without a
// correlation key isn't published either, but nobody can wait for it.
func (r *replyEvents) check(method string, reply []byte) error {
	event := r.byMethod[method]
	if event == nil {
		return nil
	}
	if _, err := subjectOf(event, reply); errors.Is(err, errEventTooLarge) {
		return err
	}
	return nil
}

// subjectOf returns the correlation key of a reply that is an event. The errors are errEventTooLarge and those of
// EventType.Subject.
func subjectOf(event *contract.EventType, reply []byte) (string, error) {
	if len(reply) > machine.MaxEventBytes {
		return "", fmt.Errorf("%w: %s has %d bytes; at most %d are allowed; store the data elsewhere and send a "+
			"reference", errEventTooLarge, event.Type, len(reply), machine.MaxEventBytes)
	}
	subject, err := event.Subject(reply)
	if err == nil && len(subject) > machine.MaxSubjectBytes {
		return "", fmt.Errorf("%w: its correlation key, %s of %s, has %d bytes; at most %d are allowed",
			errEventTooLarge, event.Key.Name(), event.Type, len(subject), machine.MaxSubjectBytes)
	}
	return subject, err
}

// in returns the events among the replies that a turn records.
func (r *replyEvents) in(saga *machine.Saga, turn *treatyv1.Turn) []*journal.Event {
	if len(r.byMethod) == 0 {
		return nil
	}
	var events []*journal.Event
	for _, record := range turn.GetRecords() {
		var method, step, id string
		var reply []byte
		switch record := record.GetKind().(type) {
		case *treatyv1.Record_StepDone:
			step, reply, id = record.StepDone.GetStep(), record.StepDone.GetReply(), EventIDReply
			method = saga.Step(step).Scheduled.GetMethod()
		case *treatyv1.Record_CompensationDone:
			step, reply = record.CompensationDone.GetStep(), record.CompensationDone.GetReply()
			method, id = saga.Step(step).Scheduled.GetCompensation().GetMethod(), EventIDCompensation
		case *treatyv1.Record_SagaSucceeded:
			method, reply, id = saga.Started.GetDefinition(), record.SagaSucceeded.GetReply(), EventIDReply
		default:
			continue
		}
		event := r.byMethod[method]
		if event == nil {
			continue
		}
		source := wire.SagaName(saga.ID)
		if step != "" {
			source = wire.StepName(saga.ID, step)
		}
		subject, err := subjectOf(event, reply)
		if err != nil {
			r.logger.Error("a reply that is an event can't be published",
				"source", source, "type", string(event.Type), "error", err)
			continue
		}
		now := turn.GetTime().AsTime()
		events = append(events, &journal.Event{
			Source: source, ID: id, Type: string(event.Type), Subject: subject,
			Time: now, StoreTime: now, Data: nonNil(reply),
		})
	}
	return events
}
