package shards

import (
	"context"
	"sync"

	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/server"
)

// Watch implements server.Engine.
func (e *Engines) Watch(id string) server.SagaWatch { return &watch{engines: e, id: id} }

// watch watches a saga at the engine of its shard. It isn't safe for concurrent use, except for Close.
type watch struct {
	engines *Engines
	id      string

	mu      sync.Mutex
	of      *engine.Engine
	current server.SagaWatch // nil before the first call of Next
}

// Next implements server.SagaWatch. When the saga gets another engine here, the watch goes on there, and begins with
// what that one knows.
func (w *watch) Next(ctx context.Context) (view *engine.SagaView, err error) {
	err = w.engines.at(ctx, w.id, func(of *engine.Engine) (err error) {
		view, err = w.at(of).Next(ctx)
		return err
	})
	return view, err
}

// at returns the watch at an engine.
func (w *watch) at(of *engine.Engine) server.SagaWatch {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.of != of {
		if w.current != nil {
			w.current.Close()
		}
		w.of, w.current = of, of.Watch(w.id)
	}
	return w.current
}

// Close implements server.SagaWatch.
func (w *watch) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.current != nil {
		w.current.Close()
	}
}

// watchers are told when events were published. The zero value is ready to use.
type watchers struct {
	mu  sync.Mutex
	all map[chan struct{}]struct{}
}

// subscribe returns a channel that holds a token after events were published, and a function that ends the
// subscription.
func (w *watchers) subscribe() (<-chan struct{}, func()) {
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

func (w *watchers) notify() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for ch := range w.all {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}
