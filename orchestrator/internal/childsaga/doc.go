// Package childsaga makes sagas steps of other sagas. A saga whose definition is also a command is a child saga when a
// command starts it; the saga that sends the command is its parent.
//
// # Children of this orchestrator
//
// [Children] plugs into the engine in two places. As its dispatcher it starts and compensates the children that this
// orchestrator runs, in this process and without a network; it passes every other command on to the participants. As
// its observer it completes the step of a parent when a child has ended.
//
// # Children of other orchestrators
//
// A child that another orchestrator runs is a command like any other: the dispatcher calls that orchestrator over gRPC.
// Package server answers such calls, with the functions of this package for what both have in common: how a child
// starts ([StartParams]) and the error that its parent receives ([Refusal]).
package childsaga
