// Package broken doesn't compile.
package broken

// Broken returns no number.
func Broken() int { return "one" }
