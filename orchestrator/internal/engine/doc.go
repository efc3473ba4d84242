// Package engine drives sagas: it keeps the open ones, feeds their machines, commits turns in groups, sends commands once their intent
// is durable, retries, fires timers, and recovers everything after a crash. It declares what it needs (Store, Dispatcher,
// Observer) and knows no gRPC service.
package engine
