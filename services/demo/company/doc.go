// Package company runs Acme on one machine: the orchestrator and the five participants, each a process with its own
// database, built from this module. The demo shows it, and the proof kills its processes. It makes no decisions about
// sagas.
package company
