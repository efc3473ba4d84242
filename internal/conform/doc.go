// Package conform checks what a running participant promises: it sends commands as an orchestrator on a bad network
// does (twice, late, in the wrong order, under an outdated epoch), and compares the answers and the effects with the
// wire contract of docs/participants-in-other-languages.md. Package participanttest and the command treaty conform
// share it. It executes the commands that it sends.
package conform
