// Package proof proves Treaty from outside: it runs Acme, the example company, as processes, takes them away at the worst moments, and
// holds what is left against Treaty's promises. It has tests only.
//
//	go test ./proof                                  a few kills
//	go test -tags proof -v -timeout 30m ./proof/...  a hundred kills, and traces in a real Jaeger
//
// The flags -kills, -inflight and -seed make the second one longer, heavier, or choose alike.
package proof
