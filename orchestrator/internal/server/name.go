package server

import (
	"regexp"
	"strings"

	"github.com/treatyhq/treaty/orchestrator/internal/untrusted"
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
		return "", invalid(field, "%q is no saga's name: write sagas/ID", untrusted.Shorten(name))
	}
	return id, nil
}
