// Package shards finds the engine of a saga in a process that drives several shards of a store.
//
// Each shard that the process owns has an engine of its own, with its own view of the store and its own epoch, so a
// shard that is taken away ends one engine and leaves the others alone. [Engines] is what the API calls instead of one
// engine.
//
// A saga is born in a shard of the process that takes its start, so a start needs no other process. Sagas of shards
// that other processes own are refused with a [journal.ElsewhereError], which has the shard.
package shards
