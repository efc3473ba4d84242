// Package dispatch sends commands to participants over gRPC. It implements [engine.Dispatcher].
//
// # Attempts
//
// [Dispatcher.Attempt] makes one gRPC call for a step and returns its outcome. The engine decides whether there is
// another attempt; [Dispatcher.Delay] says how long to wait for it. Connections to all addresses of each participant
// are kept open, and replaced when they don't answer. Requests and replies are passed through as bytes; a reply is
// parsed only to check that it can be.
//
// # Breakers
//
// Every participant has a circuit breaker. It opens when the participant is down, that is, when there is no
// connection to any of its addresses, when several calls in a row ended with UNAVAILABLE, or when no call has been
// answered for a while. While it is open, [Dispatcher.Admit] holds commands back, so that an outage uses up no
// retries. When the participant is back, the breaker lets the waiting commands go in growing numbers. When only one
// method isn't answered, one call of it is made at a time.
//
// # Limits
//
// [Dispatcher.Admit] also holds commands back while their participant has as many as it can answer in time. All
// commands that are held back wait in one queue for each participant; see package admission.
//
// # Broadcasts
//
// A broadcast goes to every participant that is configured to take part in those of its service.
// [Dispatcher.TakingPart] names them.
//
// # What it never does
//
// It never retries a call, stores nothing durably, and decides nothing about a saga. Where participants are comes
// from its configuration, never from a request.
package dispatch
