package server

import (
	"context"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/engine"
	"github.com/treatyhq/treaty/orchestrator/journal"
)

// Engine is what the API needs of engine.Engine; Drive makes one of it. The errors are those of the engine's methods.
type Engine interface {
	// Start returns once the start is durable, or the saga that is there already is found.
	Start(ctx context.Context, params engine.StartParams) (Started, error)

	// Await returns how a saga ended, once it has.
	Await(ctx context.Context, id string) (engine.End, error)

	// Cancel undoes a saga.
	Cancel(ctx context.Context, id string, decision *treatyv1.Decision) error

	// Resume lets a suspended saga go on.
	Resume(ctx context.Context, id string, params engine.ResumeParams) error

	// Get returns a saga with its steps and whole payloads. The caller may change it.
	Get(ctx context.Context, id string) (*treatyv1.Saga, error)

	// Watch returns a channel that holds a token after each change of the saga, and a function that ends the watch.
	Watch(ctx context.Context, id string) (<-chan struct{}, func(), error)
}

// Started is a saga that was started, or found.
type Started interface {
	// Await returns how the saga ended, once it has.
	Await(ctx context.Context) (engine.End, error)
}

// Store is what the API reads from journal.Store by itself.
type Store interface {
	// List returns a page of rows.
	List(ctx context.Context, params journal.ListParams) ([]*journal.Row, error)

	// Turns returns up to limit turns of a saga with numbers greater than after, oldest first.
	Turns(ctx context.Context, id string, after uint64, limit int) ([]journal.Turn, error)
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
