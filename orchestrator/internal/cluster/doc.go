// Package cluster decides which instance drives which sagas, where several orchestrators share a database.
//
// The sagas are divided into shards. A Member stands for this instance: it keeps a lease in the Directory, which all
// instances share, takes its fair share of the shards, and hands them over at the end. There is no leader. Each member
// looks at the directory every tenth of a second, and from what it sees computes what it should own.
//
// Three things keep two instances from driving one shard. Each alone would be too little:
//
//   - The lease. A member counts it from before its renewal was sent, on a clock that goes on while the machine sleeps.
//     Holding.Valid looks at it, and is asked before every send. So a member stops before another one may take over.
//   - The fence. A commit locks a row of its member in the database, and then checks that the epochs under which it
//     writes still hold. A takeover updates that row first. So no commit of the old owner lands after the takeover,
//     however long its process was stopped between the look at the lease and the commit.
//   - The epoch. Every owner of a shard has a higher one than the owner before, and participants refuse lower ones. So
//     a command that was on its way during the takeover has no effect after one of the new owner.
//
// docs/cluster.md describes the whole, and ADR 043 says why it is so.
package cluster
