package engine

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
