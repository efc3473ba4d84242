// Package commandstream serves the rpc StreamCommands of treaty.v1.ParticipantService: it receives batches of commands
// and sends batches of answers. Every command is executed by the generated handler of its method, with a context like
// that of a unary call.
//
// A stream has two goroutines. The receiver only enqueues: it waits neither for a handler nor for the sender. So two
// processes that are each other's participants can't wait for each other in a circle. What is unanswered is bounded by
// the window alone.
package commandstream
