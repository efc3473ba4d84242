package cli

import (
	"strconv"
	"strings"
)

const sagaPrefix = "sagas/"

// parseName reads a saga's name, sagas/x or x, and returns it as sagas/x.
func parseName(text string) (string, error) {
	id := strings.TrimPrefix(text, sagaPrefix)
	if id == "" || strings.ContainsAny(id, "/ \t\n") {
		return "", usage(quote(text)+" isn't a saga's name", "Write sagas/x or x; treaty sagas list shows them.")
	}
	return sagaPrefix + id, nil
}

func quote(text string) string { return strconv.Quote(text) }

// shellQuote returns text as one word of a POSIX shell.
func shellQuote(text string) string {
	safe := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:=@,+", r)
	}
	if text != "" && strings.IndexFunc(text, func(r rune) bool { return !safe(r) }) < 0 {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
