//go:build race

package orchestrator_test

// raceMemory is how many times as much memory a process takes with the race detector, at most.
const raceMemory = 4
