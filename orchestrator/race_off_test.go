//go:build !race

package orchestrator_test

const raceMemory = 1
