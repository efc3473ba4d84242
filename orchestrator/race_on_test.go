//go:build race

package orchestrator_test

// raceMemory is how many times as much memory a process takes with the race detector, at most: goroutines that come and
// go at once, on a busy machine, take the most.
const raceMemory = 8
