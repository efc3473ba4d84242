// Package postgres stores sagas and events in a PostgreSQL database, which any number of orchestrators share.
//
// # Shards
//
// [Connect] connects to the database, and creates or migrates its tables. A saga belongs to a shard. A [Shard] is the
// journal.Store of the one instance that owns the shard. It begins and ends with the ownership, which package cluster
// decides. What isn't about the sagas that are driven, such as lists and events, is the whole database's.
//
// # Writing
//
// All shards of an instance share a few connections that write. Each takes the Appends that wait, of any shard, and
// commits them as one transaction. A transaction without events and awaits is sent as one pipeline, which takes one
// round trip. Its first statements lock the instance's row in the table fences, and check that the instance still
// owns each shard that it writes, under the same epoch. So no transaction of an instance commits after another one took
// its shards. See docs/adr/042-postgresql.md.
//
// The positions of a saga's journal are cached, since only the shard's owner adds turns.
//
// # Events
//
// A transaction that publishes events holds the row of the counter of positions until it ends, and one that awaits or
// publishes events holds the rows of the buckets of their types and subjects. See the schema.
package postgres
