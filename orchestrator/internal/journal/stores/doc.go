// Package stores opens the store that a URL names.
//
// It is the one place that knows which stores exist. Every other package works with the interfaces of package journal.
//
// # URLs
//
// A URL without a scheme is the path of a SQLite file: "treaty.db", "/var/lib/acme/treaty.db". [Check] checks whether a
// URL can be opened, without opening it, so that a program can refuse a wrong one when it reads its configuration.
//
// # A new store
//
// A store is a package next to this one that passes journaltest.Exercise. It becomes available by one line in the
// table in schemes.go.
package stores
