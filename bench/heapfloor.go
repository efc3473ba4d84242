package main

import "runtime"

// heapFloorSize is how many bytes an orchestrator allocates between two collections of garbage, at least.
const heapFloorSize = 16 << 20

// holdHeapFloor makes this process collect garbage less often while its heap is small, like an orchestrator, until the
// function that it returns is called. Nothing is ever written to what it reserves, so it takes no memory.
func holdHeapFloor() (release func()) {
	reserved := make([]byte, heapFloorSize)
	return func() { runtime.KeepAlive(reserved) }
}
