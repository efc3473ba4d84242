package cli

import (
	"strconv"
	"strings"

	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/resource"
)

// parseName reads the name of a saga in an argument.
func parseName(text string) (string, error) {
	name, ok := resource.ParseSaga(text)
	if !ok {
		return "", problem.Usage(quote(text)+" isn't a saga's name", "Write sagas/x or x; treaty sagas list shows them.")
	}
	return name, nil
}

// parseStep reads the name of a step in an argument. It returns the names of its saga and of the step.
func parseStep(text string) (saga, step string, err error) {
	saga, step, ok := resource.ParseStep(text)
	if !ok {
		return "", "", problem.Usage(quote(text)+" isn't a step's name", "Write sagas/x/steps/2 or x/2; treaty sagas get x shows its steps.")
	}
	return saga, step, nil
}

// parseState reads the value of --state.
func parseState(text string) (string, error) {
	state, ok := resource.ParseState(text)
	if !ok {
		return "", problem.Usage("there is no state "+quote(text), "The states are "+strings.Join(resource.States(), ", ")+".")
	}
	return state, nil
}

func quote(text string) string { return strconv.Quote(text) }
