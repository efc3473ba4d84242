// Package saga is what saga code imports: the Context that every step is asked through, and the verbs.
//
// Saga code is plain Go that reads top to bottom. Returning an error undoes the steps so far, newest first; returning a reply ends
// the saga well. The code is run again from its start after a crash, against the journal, so it must do the same each
// time: ask Now for the time, NewID for ids, Rand for chance, and let commands do everything else. It must not start
// goroutines that use its Context, call the network, or read what may change.
package saga

// SupportPackageIsVersion1 is referred to by generated code: code made by a newer generator than this package doesn't compile.
const SupportPackageIsVersion1 = true
