package server

import (
	"regexp"
	"strings"
)

const (
	// namePrefix begins a saga's resource name.
	namePrefix = "sagas/"

	// maxSagaID is how long a saga's id may be.
	maxSagaID = 63
)

var sagaID = regexp.MustCompile(`^[a-z]([a-z0-9-]*[a-z0-9])?$`)

func validSagaID(id string) bool { return len(id) <= maxSagaID && sagaID.MatchString(id) }

// parseName returns the id in "sagas/{saga}".
func parseName(field, name string) (string, error) {
	if name == "" {
		return "", invalid(field, "is missing: write sagas/ID")
	}
	id, ok := strings.CutPrefix(name, namePrefix)
	if !ok || !validSagaID(id) {
		return "", invalid(field, "%q is no saga's name: write sagas/ID", shorten(name))
	}
	return id, nil
}

// shorten keeps what a caller sent from filling a message.
func shorten(s string) string {
	const most = 100
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}
