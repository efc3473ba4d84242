package render

import (
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Standing returns a saga's name and state in one line.
func (v *View) Standing(saga *treatyv1.Saga) string {
	return v.render([]line{{{saga.GetName(), bold}, {"  ", plain}, v.sagaState(saga.GetState())}})
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
