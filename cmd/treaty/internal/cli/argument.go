package cli

import (
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
	"github.com/treatyhq/treaty/cmd/treaty/internal/resource"
)

// parseName reads an argument that names a saga.
func parseName(text string) (string, error) {
	name, ok := resource.ParseSaga(text)
	if !ok {
		return "", problem.Usage(quote(text)+" isn't the name of a saga",
			"Write sagas/x or x. To list sagas, run treaty sagas list.")
	}
	return name, nil
}

// parseStep reads an argument that names a step. It returns the names of the saga and of the step.
func parseStep(text string) (saga, step string, err error) {
	saga, step, ok := resource.ParseStep(text)
	if !ok {
		return "", "", problem.Usage(quote(text)+" isn't the name of a step",
			"Write sagas/x/steps/2 or x/2. To show the steps of a saga, run treaty sagas get x.")
	}
	return saga, step, nil
}

// parseState reads the value of --state.
func parseState(text string) (string, error) {
	state, ok := resource.ParseState(text)
	if !ok {
		return "", problem.Usage("unknown state "+quote(text),
			"The states are "+strings.Join(resource.States(), ", ")+".")
	}
	return state, nil
}

// parseCode reads the value of --refuse.
func parseCode(text string) (codes.Code, error) {
	code, ok := render.ParseCode(text)
	if !ok || code == codes.OK {
		return 0, problem.Usage("unknown gRPC code "+quote(text),
			"Codes that mean \"certainly not executed\" are INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, "+
				"FAILED_PRECONDITION, OUT_OF_RANGE and PERMISSION_DENIED.")
	}
	return code, nil
}

func quote(text string) string { return strconv.Quote(text) }
