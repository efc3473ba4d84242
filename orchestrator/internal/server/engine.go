package server

import (
	"context"
	"errors"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// ErrNoShard says that this process drives no shard of its store now, so that it can't start a saga. Nothing was
// recorded.
var ErrNoShard = errors.New("this orchestrator owns no shard of the store now")

// Engine is the part of engine.Engine that the API uses; Drive adapts one. The errors are those of the engine's
// methods.
type Engine interface {
	// Start starts a saga, or finds the existing one, and returns once the start is durable.
	Start(ctx context.Context, params engine.StartParams) (Started, error)

	// Await waits for a saga's end and returns it.
	Await(ctx context.Context, id string) (engine.SagaEnd, error)

	// Cancel cancels a saga, which compensates it.
	Cancel(ctx context.Context, id string, params engine.CancelParams) error

	// Resume resumes a suspended saga.
	Resume(ctx context.Context, id string, params engine.ResumeParams) error

	// Purge deletes a saga that has ended, with the children that it may compensate, and returns how many it deleted.
	Purge(ctx context.Context, id string, decision *treatyv1.Decision) (int, error)

	// ForgetLost removes a saga from the lost sagas.
	ForgetLost(ctx context.Context, id string, decision *treatyv1.Decision) error

	// Get returns a saga with its steps and complete payloads. The caller may change it.
	Get(ctx context.Context, id string) (*treatyv1.Saga, error)

	// Watch begins to watch a saga. The caller must close the watch.
	Watch(id string) SagaWatch

	StepEngine
	EventEngine
}

// StepEngine is the part of Engine for callers outside of a saga that change its steps: participants that complete them
// later, and parents that compensate a child saga.
type StepEngine interface {
	// Complete completes a command that its participant accepted earlier.
	Complete(ctx context.Context, completion engine.Completion) error

	// Heartbeat reports that a participant is still working on a command that it accepted.
	Heartbeat(ctx context.Context, saga, step string, direction engine.Direction) error

	ChildEngine
}

// ChildEngine is the part of Engine for the parents of sagas at other orchestrators.
type ChildEngine interface {
	// BeginCompensateChild compensates a saga for its parent. It returns once the decision is durable, and whether the
	// saga is compensated already. A saga that was never started is recorded as compensated.
	BeginCompensateChild(ctx context.Context, params engine.StartParams) (undone bool, err error)

	// CloseChild returns what became of a child, and makes sure that it isn't started later if it wasn't before.
	CloseChild(ctx context.Context, params engine.StartParams) (engine.Closed, error)

	// ChildCommands returns what is known about the commands of the parent of a child.
	ChildCommands(ctx context.Context, id string) ([]*treatyv1.KnownCommand, error)

	ConditionEngine
}

// ConditionEngine is the part of Engine that says which sagas aren't driven.
type ConditionEngine interface {
	// Condition returns why no saga is driven, or nil.
	Condition() error

	// Damage returns why a saga's journal can't be read, as far as the engine has tried, or nil.
	Damage(id string) error
}

// EventEngine is the part of Engine that publishes events.
type EventEngine interface {
	// Publish makes events durable, all of them or none, and sets their positions. It returns how many sagas it woke.
	Publish(ctx context.Context, events []*journal.Event) (woken int, err error)

	// WatchEvents returns a channel that holds a token after each commit that published events, and a function that
	// ends the watch.
	WatchEvents() (<-chan struct{}, func())
}

// SagaWatch follows the changes of one saga.
type SagaWatch interface {
	// Next returns the saga at the first call, and later waits for a change. It returns the newest view only.
	Next(ctx context.Context) (*engine.SagaView, error)

	// Close ends the watch.
	Close()
}

// Started is a saga that was started, or found.
type Started interface {
	// Await waits for the saga's end and returns it.
	Await(ctx context.Context) (engine.SagaEnd, error)

	// Ended returns the saga's end, or false when it hasn't ended.
	Ended(ctx context.Context) (engine.SagaEnd, bool, error)

	// StartedBy returns the id of the principal that started a saga which was found. It is empty if that isn't known,
	// or if the saga was started now.
	StartedBy() string
}

// Store is the part of journal.Store that the API reads directly.
type Store interface {
	// List returns a page of rows.
	List(ctx context.Context, params journal.ListParams) ([]*journal.Row, error)

	// Turns returns up to limit turns of a saga with numbers greater than after, oldest first.
	Turns(ctx context.Context, id string, after uint64, limit int) ([]journal.Turn, error)

	// Lost returns a page of the sagas that participants know and the store doesn't.
	Lost(ctx context.Context, params journal.LostParams) ([]journal.LostSaga, error)

	ChildStore
	EventReader
}

// ChildStore is the part of journal.Store for the parents of sagas at other orchestrators.
type ChildStore interface {
	// Children returns a page of the sagas that other orchestrators have started.
	Children(ctx context.Context, params journal.ChildrenParams) ([]*journal.Row, error)

	// Hear stores what was heard of the scope of another orchestrator, and returns what was heard before.
	Hear(ctx context.Context, told journal.HeardScope) (before journal.HeardScope, err error)
}

// EventReader is the part of journal.Store that streams of events use.
type EventReader interface {
	// Events returns a page of events, ordered by position.
	Events(ctx context.Context, params journal.EventsParams) ([]*journal.Event, error)

	// EventRange returns the positions of the oldest and the newest stored event.
	EventRange(ctx context.Context) (oldest, newest uint64, err error)

	// Consumer returns the consumer with the name of given, or stores given if there is none.
	Consumer(ctx context.Context, given journal.Consumer) (journal.Consumer, error)

	// Acknowledge moves a consumer forward.
	Acknowledge(ctx context.Context, name string, position uint64, principal string) error
}

// Drive adapts an engine to the API.
func Drive(e *engine.Engine) Engine { return driven{e} }

// driven adapts Start and Watch, which return concrete types.
type driven struct{ *engine.Engine }

func (d driven) Watch(id string) SagaWatch { return d.Engine.Watch(id) }

func (d driven) Start(ctx context.Context, params engine.StartParams) (Started, error) {
	handle, err := d.Engine.Start(ctx, params)
	if err != nil {
		return nil, err
	}
	return handle, nil
}
