package engine

import (
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Loaded returns how many sagas are in memory, and how many of them are loaded.
func (e *Engine) Loaded() (known, loaded int) {
	e.register.mu.Lock()
	defer e.register.mu.Unlock()
	for _, inst := range e.register.sagas {
		known++
		inst.mu.Lock()
		if inst.machine != nil {
			loaded++
		}
		inst.mu.Unlock()
	}
	return known, loaded
}

// WithNow returns the configuration with another clock.
func WithNow(config Config, now func() time.Time) Config {
	config.now = now
	return config
}

// MissTurn tells those who watch a saga of a turn that comes after one of which they weren't told.
func (e *Engine) MissTurn(id string) { e.notifier.feeds.committed(id, 1<<20, new(treatyv1.Turn)) }

// Retyped returns how a journaled message differs from its type.
var Retyped = retyped
