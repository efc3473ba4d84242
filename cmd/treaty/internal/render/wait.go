package render

import (
	"strings"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// waiting returns what a saga's code waits for: "for TYPE of SUBJECT until TIME".
func (m moments) waiting(wait *treatyv1.Wait) string {
	if method := wait.GetBroadcast(); method != "" {
		return "to send " + method + " until the orchestrator is configured with participants for it"
	}
	events := make([]string, len(wait.GetEvents()))
	for i, key := range wait.GetEvents() {
		events[i] = eventKeyText(key)
	}
	text := ""
	if len(events) > 0 {
		text = "for " + strings.Join(events, " or ")
	}
	switch due := wait.GetDueTime(); {
	case due == nil:
		return text
	case text == "":
		return "until " + m.at(due)
	default:
		return text + " until " + m.at(due)
	}
}

func eventKeyText(key *treatyv1.EventKey) string {
	return key.GetType() + " of " + key.GetSubject()
}

// waits returns a line for everything but commands that a saga's code waits for.
func (v *View) waits(saga *treatyv1.Saga) []line {
	var out []line
	for _, wait := range saga.GetWaits() {
		where := wait.GetWait()
		if since := wait.GetScheduleTime(); since != nil {
			where += ", since " + v.moments.distance(since)
		}
		out = append(out, line{
			{"  " + pad("waits"), dim}, {v.moments.waiting(wait), cyan}, {"  (" + where + ")", dim},
		})
	}
	return out
}
