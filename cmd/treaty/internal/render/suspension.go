package render

import (
	"strings"

	"github.com/treatyhq/treaty/cmd/treaty/internal/resource"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
)

// suspendedMethods returns the method and the compensation of the step at which a saga is suspended.
func suspendedMethods(saga *treatyv1.Saga) (method, compensation string) {
	method, compensation = "the command", "the compensation"
	if step := resource.SuspendedStep(saga); step != nil {
		method = step.GetMethod()
		if step.GetCompensationMethod() != "" {
			compensation = step.GetCompensationMethod()
		}
	}
	return method, compensation
}

// suspension returns why a saga is suspended, and the commands that fit.
func (v *View) suspension(saga *treatyv1.Saga) []line {
	suspension := saga.GetSuspension()
	title := "Suspended: " + SuspensionText(suspension.GetReason())
	if step := suspension.GetStep(); step != "" {
		title += " (step " + wire.StepPath(step) + ")"
	}
	out := []line{text(redBold, "%s", title)}
	if message := strings.TrimSpace(suspension.GetMessage()); message != "" {
		for part := range strings.SplitSeq(message, "\n") {
			out = append(out, line{{"  " + part, plain}})
		}
	}
	for _, fact := range []struct{ name, value string }{
		{"expected", suspension.GetExpected()},
		{"found", suspension.GetFound()},
	} {
		name := fact.name
		for part := range strings.Lines(fact.value) {
			out = append(out, line{{"  " + pad(name), dim}, {strings.TrimSuffix(part, "\n"), plain}})
			name = ""
		}
	}
	out = append(out, v.failure("failure", suspension.GetFailure())...)
	return out
}
