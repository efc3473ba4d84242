// Package resource reads the resources of the API: the names of sagas and steps, their states, and where a saga is
// suspended.
//
// It is the only place of the command line that knows how names and states are spelled. It never calls an orchestrator.
package resource
