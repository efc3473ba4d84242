package engine

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

const (
	// nextEventRetry is how long to wait before looking for an event again after the store failed.
	nextEventRetry = time.Second

	// dueScanLimit is how many due sagas are read when it isn't known which sagas an event woke.
	dueScanLimit = 1 << 10
)

// waker wakes sagas: when a timer fires, when an event that they await is published, and when the store says that they
// are due.
type waker struct {
	store  Store
	now    func() time.Time
	logger *slog.Logger

	timers *timers
	queue  *wakeQueue
	events *eventWatchers
}

func newWaker(config *Config, work *work, wake func(id string)) *waker {
	w := &waker{
		store: config.Store, now: config.now, logger: config.Logger,
		queue: &wakeQueue{wake: wake}, events: new(eventWatchers),
	}
	w.timers = newTimers(config, work, w.queue.add)
	return w
}

// committed wakes the sagas that a durable entry woke, and notifies the event watchers if it published events.
func (w *waker) committed(entry *journal.Entry) {
	if len(entry.Events) > 0 {
		w.events.notify()
	}
	for _, id := range entry.Woken {
		if id != entry.Saga {
			w.queue.add(id)
		}
	}
}

// eventsFound is committed for events that were found in the store after a commit in doubt. The store doesn't say which
// sagas they woke, but those are due.
func (w *waker) eventsFound(ctx context.Context) {
	w.events.notify()
	due, err := w.store.Due(ctx, w.now(), dueScanLimit)
	if err != nil {
		return // the next scan of the timers finds them
	}
	for _, d := range due {
		w.queue.add(d.Saga)
	}
}

// nextEvent returns the next event that a saga awaits, as an input, or the one that suspends the saga if the key of the
// event is missing. It returns false when there is none yet.
func (w *waker) nextEvent(ctx context.Context, saga *machine.Saga) (machine.Input, bool) {
	awaits := awaitsOf(saga)
	if len(awaits) == 0 {
		return nil, false
	}
	event, index, err := w.store.NextEvent(ctx, saga.ID, awaits)
	if missing, is := errors.AsType[*journal.KeyError](err); is {
		return machine.KeyMissing{Message: suspensionForKey(missing).GetMessage()}, true
	}
	if err != nil {
		w.logger.Error("looking for an event that a saga awaits failed; trying again",
			"saga", wire.SagaName(saga.ID), "error", err)
		time.AfterFunc(nextEventRetry, func() { w.queue.add(saga.ID) })
		return nil, false
	}
	if event == nil {
		return nil, false
	}
	return machine.EventReceived{
		Key: &treatyv1.EventKey{Type: awaits[index].Type, Subject: awaits[index].Subject},
		Event: &treatyv1.EventArrived{
			Position: event.Position, Source: event.Source, Id: event.ID,
			Time: timestamppb.New(event.Time), Data: event.Data,
		},
	}, true
}

// awaitsOf returns the events that a saga awaits, as the store keeps them.
func awaitsOf(saga *machine.Saga) []journal.Await {
	if saga.State != treatyv1.SagaState_SAGA_STATE_RUNNING || len(saga.Waits) == 0 {
		return nil
	}
	var awaits []journal.Await
	for _, wait := range saga.Waits {
		for _, key := range wait.Scheduled.GetEvents() {
			awaits = append(awaits, journal.Await{Type: key.GetType(), Subject: key.GetSubject(),
				After: saga.Taken(key)})
		}
	}
	return awaits
}
