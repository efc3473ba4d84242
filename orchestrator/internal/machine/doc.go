// Package machine is the pure core of the orchestrator. It decides what a saga does next, only from the saga's journal
// and an input.
//
// # Inputs and outputs
//
// A [Machine] runs one saga. [Machine.Apply] takes an [Input], e.g. the end of a command, and returns an [Output]: the
// turn to append to the journal, and the effects to perform after the turn is committed. An [Effect] sends a command or
// finds out which participants serve a broadcast; its result comes back as an input. Timers need no effect:
// [Machine.Due] says when to apply a [Wake].
//
// # Journal
//
// The state of a saga is a fold over its journal; see [Saga]. To recover a saga, pass its turns to [Machine.Replay],
// then apply a Wake. Its output has the effects that are still pending. The machine applies each record that it creates
// with the same code that reads it later, so a replayed machine is in the same state as the one that wrote the journal.
//
// # Saga code
//
// The machine runs the saga's [Code] as coroutines: a [Thread] for the main function and one for each branch. One
// thread runs at a time, and only when the machine delivers the result of what it waits for. A replay runs the code
// from the start and compares what it does with the journal; a difference suspends the saga. Compensating needs no
// code.
//
// The machine waits for the code. If the code blocks, whoever has the machine's [coroutine.Group] can interrupt it.
// Then the machine suspends the saga, and the code's goroutine is left behind.
//
// # Purity
//
// Apart from that, the machine never waits, reads no clock, draws no random numbers, starts no goroutines, logs
// nothing, and knows neither stores nor networks. The same journal and inputs always give the same outputs. It is not
// safe for concurrent use.
package machine
