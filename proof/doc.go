// Package proof tests Treaty's promises from outside. It runs Acme, the example company, as processes, kills them at
// random times under load, and audits what is left. It has tests only.
//
//	go test ./proof                                  a few kills
//	go test -tags proof -v -timeout 30m ./proof/...  a hundred kills, and traces in a real Jaeger
//
// For the second command, -kills sets the number of kills, -inflight the load, and -seed the random choices.
package proof
