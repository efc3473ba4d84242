package engine

import (
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

// in returns the events among the replies that a turn records.
func (r *replyEvents) in(saga *machine.Saga, turn *treatyv1.Turn) []*journal.Event {
	if len(r.byMethod) == 0 {
		return nil
	}
	var events []*journal.Event
	for _, record := range turn.GetRecords() {
		var method, source, id string
		var reply []byte
		switch record := record.GetKind().(type) {
		case *treatyv1.Record_StepDone:
			path := record.StepDone.GetStep()
			method, source = saga.Step(path).Scheduled.GetMethod(), wire.StepName(saga.ID, path)
			reply, id = record.StepDone.GetReply(), EventIDReply
		case *treatyv1.Record_CompensationDone:
			path := record.CompensationDone.GetStep()
			method, source = saga.Step(path).Scheduled.GetCompensation().GetMethod(), wire.StepName(saga.ID, path)
			reply, id = record.CompensationDone.GetReply(), EventIDCompensation
		case *treatyv1.Record_SagaSucceeded:
			method, source = saga.Started.GetDefinition(), wire.SagaName(saga.ID)
			reply, id = record.SagaSucceeded.GetReply(), EventIDReply
		default:
			continue
		}
		event := r.byMethod[method]
		if event == nil {
			continue
		}
		subject, err := event.Subject(reply)
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
