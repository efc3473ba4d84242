package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// ErrOtherEvent says that an event of that source and id was published before with other content.
var ErrOtherEvent = errors.New("an event of this source and id was published before with other content")

// Publish makes events durable, all of them or none, and wakes the sagas that await them. It sets their positions and
// store times, and returns how many sagas it woke. The errors are ErrOtherEvent (the event's Err is set then),
// ErrInDoubt (publish again with the same ids), ErrReplaced, ErrRestoring and ErrStopping.
func (e *Engine) Publish(ctx context.Context, events []*journal.Event) (woken int, err error) {
	if len(events) == 0 {
		return 0, nil
	}
	if err := e.gate.err(); err != nil {
		return 0, err
	}
	now := e.config.now().UTC()
	for _, event := range events {
		event.StoreTime = now
		if event.Time.IsZero() {
			event.Time = now
		}
	}
	type published struct {
		woken int
		err   error
	}
	answer := make(chan published, 1)
	if !e.work.spawn(func() {
		woken, err := e.writer.publish(events)
		answer <- published{woken, err}
	}) {
		return 0, ErrStopping
	}
	select {
	case p := <-answer:
		return p.woken, p.err
	case <-ctx.Done():
		return 0, fmt.Errorf("%w: %w", ErrInDoubt, context.Cause(ctx))
	}
}

// WatchEvents returns a channel that holds a token after each commit that published events, and a function that ends
// the watch. Several commits may make one token.
func (e *Engine) WatchEvents() (<-chan struct{}, func()) {
	return e.waker.events.subscribe()
}
