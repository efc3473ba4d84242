// Package checks holds the tests of the files in deploy: each is valid by the schema of its format, fits the others,
// and starts the programs that it names, with the flags and variables that it gives them.
//
// It is a module of its own, so that nobody else inherits what reads these formats.
package checks
