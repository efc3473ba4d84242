package server

import (
	"regexp"

	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/untrusted"
)

const (
	// maxSagaID is the length of the longest saga id, in bytes.
	maxSagaID = 63

	// maxStepPath is the length of the longest step path, in bytes.
	maxStepPath = 512
)

var (
	sagaID   = regexp.MustCompile(`^[a-z]([a-z0-9-]*[a-z0-9])?$`)
	stepPath = regexp.MustCompile(`^[a-z0-9]+(\.[a-z0-9]+)*$`)
)

func validSagaID(id string) bool { return len(id) <= maxSagaID && sagaID.MatchString(id) }

// parseName returns the id in a saga's name, "sagas/{saga}". The error names the field.
func parseName(field, name string) (string, error) {
	if name == "" {
		return "", invalid(field, "is missing: want sagas/ID")
	}
	id, ok := wire.ParseSagaName(name)
	if !ok || !validSagaID(id) {
		return "", invalid(field, "%q isn't the name of a saga: want sagas/ID", untrusted.Shorten(name))
	}
	return id, nil
}

// parseCommandID returns the saga's id and the step's path in a command id. It returns false when the text isn't a
// command id.
func parseCommandID(id string) (saga, step string, ok bool) {
	saga, step, ok = wire.ParseStepName(id)
	return saga, step, ok && validSagaID(saga) && len(step) <= maxStepPath && stepPath.MatchString(step)
}
