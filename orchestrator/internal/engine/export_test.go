package engine

// Loaded counts the sagas in memory, and those of them whose machine is loaded.
func (e *Engine) Loaded() (known, loaded int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, inst := range e.sagas {
		known++
		inst.mu.Lock()
		if inst.machine != nil {
			loaded++
		}
		inst.mu.Unlock()
	}
	return known, loaded
}
