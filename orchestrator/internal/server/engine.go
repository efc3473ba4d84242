package server

import (
	"context"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// Engine is what the API needs of engine.Engine; Drive makes one of it. The errors are those of the engine's methods.
type Engine interface {
	// Start returns once the start is durable, or the saga that is there already is found.
	Start(ctx context.Context, params engine.StartParams) (Started, error)

	// Await returns how a saga ended, once it has.
	Await(ctx context.Context, id string) (engine.SagaEnd, error)

	// Cancel undoes a saga.
	Cancel(ctx context.Context, id string, decision *treatyv1.Decision) error

	// Resume lets a suspended saga go on.
	Resume(ctx context.Context, id string, params engine.ResumeParams) error

	// Get returns a saga with its steps and whole payloads. The caller may change it.
	Get(ctx context.Context, id string) (*treatyv1.Saga, error)

	// Watch returns a channel that holds a token after each change of the saga, and a function that ends the watch.
	Watch(ctx context.Context, id string) (<-chan struct{}, func(), error)

	StepEngine
	EventEngine
}

// StepEngine is the part of Engine by which others tell of a saga's steps: participants that complete them later, and
// the sagas that have this one as a step.
type StepEngine interface {
	// Complete ends a command that its participant accepted before.
	Complete(ctx context.Context, completion engine.Completion) error

	// Heartbeat says that a participant still works on a command that it accepted.
	Heartbeat(ctx context.Context, saga, step string, direction engine.Direction) error

	// CompensateChild undoes a saga for its parent and returns once that is done; one that was never started is
	// recorded as undone.
	CompensateChild(ctx context.Context, params engine.StartParams) error

	// BeginCompensateChild undoes a child for its parent. It returns once that is durable, and says whether it is
	// undone already.
	BeginCompensateChild(ctx context.Context, params engine.StartParams) (undone bool, err error)
}

// EventEngine is the part of Engine that events are published with.
type EventEngine interface {
	// Publish makes events durable, all of them or none, and sets their positions.
	Publish(ctx context.Context, events []*journal.Event) error

	// WatchEvents returns a channel that holds a token after each commit that published events, and a function that
	// ends the watch.
	WatchEvents() (<-chan struct{}, func())
}

// Started is a saga that was started, or found.
type Started interface {
	// Await returns how the saga ended, once it has.
	Await(ctx context.Context) (engine.SagaEnd, error)

	// Ended returns how the saga ended; false when it hasn't.
	Ended(ctx context.Context) (engine.SagaEnd, bool, error)
}

// Store is what the API reads from journal.Store by itself.
type Store interface {
	// List returns a page of rows.
	List(ctx context.Context, params journal.ListParams) ([]*journal.Row, error)

	// Turns returns up to limit turns of a saga with numbers greater than after, oldest first.
	Turns(ctx context.Context, id string, after uint64, limit int) ([]journal.Turn, error)

	EventReader
}

// EventReader is the part of journal.EventStore that streams of events are made of. Its promises are those of
// journal.EventStore.
type EventReader interface {
	// Events returns a page of events, by position.
	Events(ctx context.Context, params journal.EventsParams) ([]*journal.Event, error)

	// EventRange returns the positions of the oldest and of the newest event that are kept.
	EventRange(ctx context.Context) (oldest, newest uint64, err error)

	// Consumer returns the consumer of a name; one that isn't known is made as it is given.
	Consumer(ctx context.Context, given journal.Consumer) (journal.Consumer, error)

	// Acknowledge moves a consumer forward.
	Acknowledge(ctx context.Context, name string, position uint64) error
}

// Drive returns the engine as the API sees it.
func Drive(e *engine.Engine) Engine { return driven{e} }

// driven adapts Start, which returns a concrete type.
type driven struct{ *engine.Engine }

func (d driven) Start(ctx context.Context, params engine.StartParams) (Started, error) {
	handle, err := d.Engine.Start(ctx, params)
	if err != nil {
		return nil, err
	}
	return handle, nil
}
