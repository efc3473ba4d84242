package render

import (
	"fmt"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Standing returns a saga's name and state in one line.
func (v *View) Standing(saga *treatyv1.Saga) string {
	return v.render([]line{{{saga.GetName(), bold}, {"  ", plain}, v.sagaState(saga.GetState())}})
}

// End says how a saga ended, and with which reply.
func (v *View) End(saga *treatyv1.Saga) string {
	title := line{{saga.GetName(), bold}, {"  ", plain}, v.sagaState(saga.GetState())}
	if took := v.moments.between(saga.GetCreateTime(), saga.GetEndTime()); took != "" {
		title = append(title, span{" in " + took, plain})
	}
	out := []line{title}
	if failure := saga.GetFailure(); failure != nil {
		out = append(out, text(red, "%s", failureText(failure)))
		for _, detail := range failure.GetDetails() {
			out = append(out, v.typed(detail)...)
		}
	}
	if saga.GetReply() != nil {
		out = append(out, v.payload(saga.GetReply())...)
	}
	return v.render(out)
}

// Published returns the position and the id of an event that was published.
func (v *View) Published(position uint64, id string) string {
	return v.render([]line{{{fmt.Sprint(position), bold}, {"  " + id, plain}}})
}

// Event returns an event: what it is and for whom, where it is from, and what is in it.
func (v *View) Event(event *treatyv1.PublishedEvent) string {
	out := []line{{
		{fmt.Sprint(event.GetPosition()), bold}, {"  " + v.moments.distance(event.GetTime()), dim},
		{"  " + event.GetType(), cyan}, {"  " + event.GetSubject(), plain}, {"  " + event.GetId() + " of " + event.GetSource(), dim},
	}}
	return v.render(append(out, indented(2, v.payload(event.GetData()))...))
}
