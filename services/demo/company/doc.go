// Package company runs Acme on one machine: the orchestrator and the five participants, each a process of its own with
// its own database, built from this module. The demo shows it, and the proof kills its processes. It decides nothing
// about sagas.
package company
