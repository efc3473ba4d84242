// Package engine drives sagas. It keeps the open ones, feeds their machines, commits turns in groups, sends commands
// once their intent is durable, retries them, fires timers, and recovers everything after a crash. It declares the
// interfaces that it needs ([Store], [Dispatcher] and [Observer]), and knows neither the database nor how
// participants are called.
//
// # A start
//
// [Engine.Start] puts an instance with the saga's start in its mailbox into the register. The driver applies the start
// to the saga's machine, which runs the saga code until it waits. The writer commits the turn; turns of different sagas
// share a commit. After the commit the sender sends the commands that the turn intends.
//
// # A reply
//
// The sender classifies what the dispatcher answers. A command that has ended becomes an input in its saga's mailbox;
// otherwise the command waits for its next attempt, for its participant, or for its completion. The driver applies the
// input, and so on until the saga ends. The notifier then notifies the observer and the callers that wait.
//
// # Waking
//
// Timers and events wake sagas that wait. The waker keeps the timers of the next minutes in memory; all others stay in
// the store.
//
// # Memory
//
// A saga is in memory while it has something to do. One that only waits is dropped or, while commands are in flight for
// long, unloaded. It is loaded again when an input comes.
//
// # Failures
//
// When a commit fails, it isn't known whether the turn is durable. The driver then reads the saga again until the store
// answers, and continues from what was stored. [Engine.Recover] does the same for all open sagas when the process
// starts.
package engine
