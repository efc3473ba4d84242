package engine

import "sync"

// maxDamaged bounds the memory that damaged sagas take. What is wrong with further ones is only logged.
const maxDamaged = 10000

// damagedSagas are the sagas whose journals couldn't be read when they were read last, and why. The zero value is ready
// to use. All methods may be called concurrently.
type damagedSagas struct {
	mu     sync.RWMutex
	causes map[string]error
}

func (d *damagedSagas) add(id string, cause error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.causes == nil {
		d.causes = make(map[string]error)
	}
	if len(d.causes) < maxDamaged {
		d.causes[id] = cause
	}
}

// remove says that a saga could be read.
func (d *damagedSagas) remove(id string) {
	if d.cause(id) == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.causes, id)
}

func (d *damagedSagas) cause(id string) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.causes[id]
}

// Damage returns why a saga's journal couldn't be read when the engine read it last, or nil. Such a saga doesn't
// continue. The engine reads a saga when it recovers it, and when it is to do something and isn't in memory.
func (e *Engine) Damage(id string) error { return e.loader.damaged.cause(id) }
