// Package houserules holds the rules about this repository that no compiler checks: who may import whom, what the pure
// core may not touch, where the wire format is written, and that every dependency has a written reason. It has tests
// only and reads the source files; it builds and runs nothing.
package houserules
