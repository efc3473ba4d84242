// Package resource reads the resources of the API: the names of sagas and steps, their states, and where a saga is
// suspended.
//
// It reads names and states as a user writes them, and shows states as a user reads them. It never calls an
// orchestrator.
package resource
