// Package drift compares what two programs take the contract of a method to be.
//
// [Compare] compares descriptors: what an orchestrator expects of a participant, with what the participant says that it
// serves. A [Difference] is breaking if one side could act on something else than what the other one sent, and harmless
// otherwise. [Field] and [Kind] describe fields and methods in words; what compares contracts in other ways uses them,
// too.
package drift
