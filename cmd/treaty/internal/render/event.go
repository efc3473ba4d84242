package render

import (
	"fmt"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Published returns the position and the id of a published event.
func (v *View) Published(position uint64, id string) string {
	return v.render([]line{{{fmt.Sprint(position), bold}, {"  " + id, plain}}})
}

// Event returns an event: its position, time, type, subject, id and source, and then its data.
func (v *View) Event(event *treatyv1.PublishedEvent) string {
	out := []line{{
		{fmt.Sprint(event.GetPosition()), bold}, {"  " + v.moments.distance(event.GetTime()), dim},
		{"  " + event.GetType(), cyan}, {"  " + event.GetSubject(), plain}, {"  " + event.GetId() + " of " +
			event.GetSource(), dim},
	}}
	return v.render(append(out, indented(2, v.payload(event.GetData()))...))
}
