package render

import (
	"strings"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// waiting says what a saga's code waits for: "for TYPE of SUBJECT until TIME".
func (m moments) waiting(wait *treatyv1.Wait) string {
	if method := wait.GetBroadcast(); method != "" {
		return "to send " + method + " until all have said what they serve: " + strings.Join(wait.GetSilentParticipants(), ", ")
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

// waits says what a saga's code waits for beside commands, a line each.
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

// scopes says which parts of a saga's code failed while the saga went on, and why.
func (v *View) scopes(saga *treatyv1.Saga) []line {
	var out []line
	for _, scope := range saga.GetScopes() {
		out = append(out, line{
			{"  " + pad("scope"), dim}, {scope.GetScope() + " is undone", yellow},
			{"  " + joinNonEmpty(scopeCauseText(scope.GetCause()), v.moments.at(scope.GetDecideTime())), plain},
		})
		out = append(out, v.failure("", scope.GetFailure())...)
	}
	return out
}

// scopeCauseText says why a scope was undone.
func scopeCauseText(cause treatyv1.CompensationCause) string {
	switch cause {
	case treatyv1.CompensationCause_COMPENSATION_CAUSE_FAILED:
		return "its code returned an error"
	case treatyv1.CompensationCause_COMPENSATION_CAUSE_DEADLINE:
		return "its deadline passed"
	default:
		return causeText(cause)
	}
}
