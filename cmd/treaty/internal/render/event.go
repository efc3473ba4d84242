package render

import (
	"fmt"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Published returns the position and the id of the event that a response is about, and whether it woke any sagas.
func (v *View) Published(response *treatyv1.PublishEventsResponse, id string) string {
	out := line{{fmt.Sprint(response.GetPositions()[0]), bold}, {"  " + id, plain}}
	if response.WokenSagas != nil { // earlier orchestrators don't say
		woke := "woke no saga"
		switch n := response.GetWokenSagas(); {
		case n == 1:
			woke = "woke 1 saga"
		case n > 1:
			woke = fmt.Sprintf("woke %d sagas", n)
		}
		out = append(out, span{"  " + woke, plain})
	}
	return v.render([]line{out})
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
