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
// store times. The errors are ErrOtherEvent (the event's Err is set then), ErrInDoubt (publish again with the same
// ids), ErrReplaced, ErrRestoring and ErrStopping.
func (e *Engine) Publish(ctx context.Context, events []*journal.Event) error {
	if len(events) == 0 {
		return nil
	}
	if err := e.gate.err(); err != nil {
		return err
	}
	now := e.config.now().UTC()
	for _, event := range events {
		event.StoreTime = now
		if event.Time.IsZero() {
			event.Time = now
		}
	}
	answer := make(chan error, 1)
	if !e.work.spawn(func() { answer <- e.writer.publish(events) }) {
		return ErrStopping
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrInDoubt, context.Cause(ctx))
	}
}

// WatchEvents returns a channel that holds a token after each commit that published events, and a function that ends
// the watch. Several commits may make one token.
func (e *Engine) WatchEvents() (<-chan struct{}, func()) {
	return e.waker.events.subscribe()
}
