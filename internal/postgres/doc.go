// Package postgres runs real PostgreSQL servers for tests, the benchmark and the demo.
//
// [Find] finds the programs of PostgreSQL on this machine, and gets them if there are none: [Start] makes a database
// cluster of its own in a temporary folder and serves it on a free port of loopback. PostgreSQL refuses to run as root,
// so root's servers run as the user nobody. A server and its folder go away with the process that started it, however
// that ends: a guardian, which is a small shell script, waits for its end.
//
// The package needs no driver and no other module.
package postgres
