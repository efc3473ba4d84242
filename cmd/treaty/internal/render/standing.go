package render

import (
	"fmt"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Standing returns a saga's name and state in one line.
func (v *View) Standing(saga *treatyv1.Saga) string {
	return v.render([]line{{{saga.GetName(), bold}, {"  ", plain}, v.sagaState(saga.GetState())}})
}

// Purged returns the name of a saga that was purged, and how many children were purged with it, in one line.
func (v *View) Purged(name string, children int) string {
	purged := line{{name, bold}, {"  ", plain}, {"purged", dim}}
	switch children {
	case 0:
	case 1:
		purged = append(purged, span{" with 1 child saga", dim})
	default:
		purged = append(purged, span{fmt.Sprintf(" with %d child sagas", children), dim})
	}
	return v.render([]line{purged})
}

// Failed returns a saga's name and why a call about it failed, in one line.
func (v *View) Failed(name, why string) string {
	return v.render([]line{{{name, bold}, {"  ", plain}, v.marked("✗", "failed", red), {": " + why, plain}}})
}

// End returns how a saga ended: its state, duration, failure and reply.
func (v *View) End(saga *treatyv1.Saga) string {
	title := line{{saga.GetName(), bold}, {"  ", plain}, v.sagaState(saga.GetState())}
	if took := v.moments.between(saga.GetCreateTime(), saga.GetEndTime()); took != "" {
		title = append(title, span{" in " + took, plain})
	}
	out := []line{title}
	if failure := saga.GetFailure(); failure != nil {
		out = append(out, text(red, "%s", FailureText(failure)))
		for _, detail := range failure.GetDetails() {
			out = append(out, v.typed(detail)...)
		}
	}
	if saga.GetReply() != nil {
		out = append(out, v.payload(saga.GetReply())...)
	}
	return v.render(out)
}
