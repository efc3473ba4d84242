package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"google.golang.org/protobuf/reflect/protoreflect"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// ErrOtherEvent says that an event of that source and id was published before with another content.
var ErrOtherEvent = errors.New("an event of this source and id was published before with another content")

// The ids of events that the orchestrator publishes itself. Their source is the saga's name, or the command id of the step.
const (
	// EventIDReply is the id of the reply of a step, or of a saga.
	EventIDReply = "reply"

	// EventIDCompensation is the id of the reply of a compensation.
	EventIDCompensation = "compensation"
)

// Publish makes events durable, all of them or none, and wakes the sagas that await them. It sets their positions and StoreTime. The errors are
// ErrOtherEvent (the event's Err is set then), ErrInDoubt (publish again with the same ids) and ErrStopping.
func (e *Engine) Publish(ctx context.Context, events []*journal.Event) error {
	if len(events) == 0 {
		return nil
	}
	if !e.enter() {
		return ErrStopping
	}
	now := e.config.Clock.Now().UTC()
	for _, event := range events {
		event.StoreTime = now
		if event.Time.IsZero() {
			event.Time = now
		}
	}
	turn := &commit{entry: journal.Entry{Events: events}, done: make(chan struct{}, 1)}
	answer := make(chan error, 1)
	go func() {
		defer e.leave()
		err := e.committer.commit(turn)
		switch {
		case err != nil:
			err = fmt.Errorf("%w: %w", ErrInDoubt, err)
		case errors.Is(turn.entry.Err, journal.ErrExists):
			err = ErrOtherEvent
		case turn.entry.Err != nil:
			err = turn.entry.Err
		default:
			e.published(&turn.entry)
		}
		answer <- err
	}()
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrInDoubt, context.Cause(ctx))
	}
}

// published goes on with what an entry that is durable brought about beside its saga.
func (e *Engine) published(entry *journal.Entry) {
	if len(entry.Events) > 0 {
		e.eventWatchers.tell()
	}
	for _, id := range entry.Woken {
		if id != entry.Saga {
			e.due.add(id)
		}
	}
}

// WatchEvents returns a channel that holds a token after each commit that published events (several commits may make one), and a
// function that ends the watch.
func (e *Engine) WatchEvents() (<-chan struct{}, func()) {
	return e.eventWatchers.subscribe()
}

// eventWatchers are those who want to hear that events were published.
type eventWatchers struct {
	mu  sync.Mutex
	all map[chan struct{}]struct{}
}

func (w *eventWatchers) subscribe() (<-chan struct{}, func()) {
	ch := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all == nil {
		w.all = make(map[chan struct{}]struct{})
	}
	w.all[ch] = struct{}{}
	return ch, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.all, ch)
	}
}

func (w *eventWatchers) tell() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for ch := range w.all {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// publishers says which methods' replies are events.
func publishers(catalog *contract.Catalog) map[string]*contract.EventType {
	found := make(map[string]*contract.EventType)
	add := func(method string, output protoreflect.MessageDescriptor) {
		if event, is := catalog.EventType(string(output.FullName())); is {
			found[method] = event
		}
	}
	for command := range catalog.Commands() {
		add(command.Method, command.Output)
	}
	for compensation := range catalog.Compensations() {
		add(compensation.Method, compensation.Output)
	}
	for saga := range catalog.SagaDefinitions() {
		add(saga.Definition, saga.Output)
	}
	return found
}

// eventsOf returns the events among the replies that a turn records.
func (e *Engine) eventsOf(saga *machine.Saga, turn *treatyv1.Turn) []*journal.Event {
	if len(e.publishers) == 0 {
		return nil
	}
	var events []*journal.Event
	for _, record := range turn.GetRecords() {
		var method, source, id string
		var reply []byte
		switch r := record.GetKind().(type) {
		case *treatyv1.Record_StepDone:
			method, reply, id = saga.Step(r.StepDone.GetStep()).Scheduled.GetMethod(), r.StepDone.GetReply(), EventIDReply
			source = "sagas/" + saga.ID + "/steps/" + r.StepDone.GetStep()
		case *treatyv1.Record_CompensationDone:
			method, id = saga.Step(r.CompensationDone.GetStep()).Scheduled.GetCompensation().GetMethod(), EventIDCompensation
			reply, source = r.CompensationDone.GetReply(), "sagas/"+saga.ID+"/steps/"+r.CompensationDone.GetStep()
		case *treatyv1.Record_SagaSucceeded:
			method, source, reply, id = saga.Started.GetDefinition(), "sagas/"+saga.ID, r.SagaSucceeded.GetReply(), EventIDReply
		default:
			continue
		}
		event := e.publishers[method]
		if event == nil {
			continue
		}
		subject, err := event.Subject(reply)
		if err != nil {
			e.config.Logger.Error("a reply that is an event isn't published", "source", source, "type", string(event.Type), "error", err)
			continue
		}
		now := turn.GetTime().AsTime()
		events = append(events, &journal.Event{
			Source: source, ID: id, Type: string(event.Type), Subject: subject, Time: now, StoreTime: now, Data: nonNil(reply),
		})
	}
	return events
}
