// Package release holds the tests of what is released: the programs that tools/release.sh builds. docs/releases.md
// describes them.
package release
