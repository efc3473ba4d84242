package render

import treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"

// scopes returns the parts of a saga's code that failed while the saga continued, and why.
func (v *View) scopes(saga *treatyv1.Saga) []line {
	var out []line
	for _, scope := range saga.GetScopes() {
		out = append(out, line{
			{"  " + pad("scope"), dim}, {scope.GetScope() + " is compensated", yellow},
			{"  " + joinNonEmpty(scopeCauseText(scope.GetCause()), v.moments.at(scope.GetDecideTime())), plain},
		})
		out = append(out, v.failure("", scope.GetFailure())...)
	}
	return out
}

// scopeCauseText returns why a scope is compensated.
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
