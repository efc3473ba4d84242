// Package footprint holds tests of what users inherit: how many modules the module graph of a program has, and how many
// are compiled into it, if the program imports one of Treaty's public packages.
package footprint
