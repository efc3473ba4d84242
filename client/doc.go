// Package client helps programs that call sagas. It reads the errors of such calls, and waits for the end of a saga
// across broken connections and restarts of the orchestrator.
//
// A saga is called like any gRPC method, with generated code. [Run] does that until the saga has ended. [Reason],
// [Rejection], [Compensated], [Unknown], [RetryAfter] and [Saga] read the error of a call, with or without Run.
//
// All functions may be called concurrently.
package client
