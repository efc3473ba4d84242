package engine

import (
	"sync"
	"sync/atomic"
)

// sagaWaiters are the subscriptions to the ends of single sagas.
type sagaWaiters struct {
	count atomic.Int64 // so that notify costs nothing while nobody waits

	mu   sync.Mutex
	byID map[string]map[chan struct{}]struct{}
}

// subscribe returns a channel that holds a token after the saga has ended, and a function that ends the subscription.
func (w *sagaWaiters) subscribe(id string) (ended <-chan struct{}, cancel func()) {
	ch := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.byID == nil {
		w.byID = make(map[string]map[chan struct{}]struct{})
	}
	if w.byID[id] == nil {
		w.byID[id] = make(map[chan struct{}]struct{})
	}
	w.byID[id][ch] = struct{}{}
	w.count.Add(1)
	return ch, sync.OnceFunc(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.byID[id], ch)
		if len(w.byID[id]) == 0 {
			delete(w.byID, id)
		}
		w.count.Add(-1)
	})
}

// notify notifies those who wait for the end of a saga.
func (w *sagaWaiters) notify(id string) {
	if w.count.Load() == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	notifyAll(w.byID[id])
}

// eventWatchers are the subscriptions to the publishing of events.
type eventWatchers struct {
	mu  sync.Mutex
	all map[chan struct{}]struct{}
}

// subscribe returns a channel that holds a token after events were published, and a function that ends the
// subscription.
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

// notify notifies all watchers.
func (w *eventWatchers) notify() {
	w.mu.Lock()
	defer w.mu.Unlock()
	notifyAll(w.all)
}

func notifyAll(subscribers map[chan struct{}]struct{}) {
	for ch := range subscribers {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}
