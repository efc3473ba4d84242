package engine

import (
	"sync"
	"sync/atomic"
)

// watchers are those who want to hear of each change of a saga.
type watchers struct {
	count atomic.Int64 // so that nobody pays for it while nobody watches

	mu   sync.Mutex
	byID map[string]map[chan struct{}]struct{}
}

// subscribe returns a channel that holds a token after each change, several changes making one token, and a function that ends it.
func (w *watchers) subscribe(id string) (changes <-chan struct{}, cancel func()) {
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
	var once sync.Once
	return ch, func() {
		once.Do(func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			delete(w.byID[id], ch)
			if len(w.byID[id]) == 0 {
				delete(w.byID, id)
			}
			w.count.Add(-1)
		})
	}
}

// tell lets everybody know who watches the saga.
func (w *watchers) tell(id string) {
	if w.count.Load() == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for ch := range w.byID[id] {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}
