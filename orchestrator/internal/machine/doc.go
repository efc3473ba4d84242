// Package machine is the pure core: one saga as a fold over its journal. An input goes in; the records to append and the effects
// to perform after their commit come out. It runs saga code as a coroutine, never waits, reads no clock, and knows no store
// and no network.
package machine
