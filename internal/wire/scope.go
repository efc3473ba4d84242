package wire

import "strings"

// MaxScope is the length of the longest scope, in bytes. Participants use scopes as database keys.
const MaxScope = 128

// ScopeName returns the value of [ScopeKey] for a shard of the orchestrator with a name: "{name}/{shard}". The name may
// be empty.
func ScopeName(name, shard string) string { return name + "/" + shard }

// ValidScope reports whether a text is a scope: a name of visible ASCII characters, which may be empty, a slash, and a
// shard.
func ValidScope(scope string) bool {
	name, shard, found := strings.Cut(scope, "/")
	if !found || shard == "" || len(scope) > MaxScope || strings.Contains(shard, "/") {
		return false
	}
	for _, r := range name + shard {
		if r <= ' ' || r > '~' {
			return false
		}
	}
	return true
}
