// Package inbox makes the effect of a participant's handler exactly-once, inside the service's own database transaction.
// The orchestrator sends a command until it hears an answer, and an undo whenever an action may have run; so a command can
// come twice, come late, and come after its undo. [Handle] settles all of that: it runs the handler at most once for a
// command id and direction, and answers the rest from what it stored.
//
// What it stores is also the service's ledger: one row for each command and direction, in the order of their
// transactions, with what became of it. See docs/participants.md for the table.
//
// The package covers effects inside the database of the inbox. An effect elsewhere, such as a call to a third party, needs a key of
// its own; the example service services/identity shows how.
package inbox
