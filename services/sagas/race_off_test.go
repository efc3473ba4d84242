//go:build !race

package main

// raceDetector says that the race detector is on, which makes explorations ten times as slow.
const raceDetector = false
