// Package journaltest holds what every store of sagas is tested with: the suite Exercise, the store Memory, which passes it without a
// disk, and Faults, which makes any store fail where a test wants it to.
package journaltest
