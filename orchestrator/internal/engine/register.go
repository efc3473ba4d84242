package engine

import (
	"maps"
	"slices"
	"sync"
)

// register holds the sagas that are in memory. There is at most one instance of a saga at a time.
type register struct {
	mu      sync.Mutex
	sagas   map[string]*instance
	dropped map[string]struct{} // the sagas that left memory since trackDropped(true); nil when they aren't tracked
}

func newRegister() *register { return &register{sagas: make(map[string]*instance)} }

// get returns the saga's instance. It makes an empty one when the saga isn't in memory.
func (r *register) get(id string) *instance {
	r.mu.Lock()
	defer r.mu.Unlock()
	inst := r.sagas[id]
	if inst == nil {
		inst = newInstance(id)
		r.sagas[id] = inst
	}
	return inst
}

// find returns the saga's instance, or nil when the saga isn't in memory.
func (r *register) find(id string) *instance {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sagas[id]
}

// add adds a new instance. It returns false when the saga is in memory already.
func (r *register) add(inst *instance) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sagas[inst.id] != nil {
		return false
	}
	r.sagas[inst.id] = inst
	return true
}

// drop releases an instance and removes it. The caller holds the instance's lock and runs it.
func (r *register) drop(inst *instance) {
	inst.release()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sagas[inst.id] == inst {
		delete(r.sagas, inst.id)
	}
	if r.dropped != nil {
		r.dropped[inst.id] = struct{}{}
	}
}

// trackDropped starts to record which sagas leave memory. The returned function ends it.
func (r *register) trackDropped() (stop func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dropped = make(map[string]struct{})
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.dropped = nil
	}
}

// wasDropped returns whether a saga left memory since trackDropped was called.
func (r *register) wasDropped(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, was := r.dropped[id]
	return was
}

// releaseAll releases all instances, at the end.
func (r *register) releaseAll() {
	r.mu.Lock()
	left := slices.Collect(maps.Values(r.sagas))
	clear(r.sagas)
	r.mu.Unlock()
	for _, inst := range left {
		inst.mu.Lock()
		inst.release()
		inst.mu.Unlock()
	}
}
