package engine

// Loaded counts the sagas in memory, and those of them whose machine is loaded.
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
