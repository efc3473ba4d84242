package conform

import (
	"testing"

	"google.golang.org/grpc/codes"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
)

// TestOutcomes compares the meaning of each code with that which an orchestrator sees in it.
func TestOutcomes(t *testing.T) {
	override := []*treatyv1.OutcomeOverride{
		{Code: "NOT_FOUND", Outcome: treatyv1.Outcome_OUTCOME_UNKNOWN},
		{Code: "UNKNOWN", Outcome: treatyv1.Outcome_OUTCOME_REFUSED},
	}
	call := &contract.CallConfig{Outcomes: map[codes.Code]treatyv1.Outcome{
		codes.NotFound: treatyv1.Outcome_OUTCOME_UNKNOWN, codes.Unknown: treatyv1.Outcome_OUTCOME_REFUSED,
	}}
	for c := codes.OK; c <= codes.Unauthenticated+1; c++ {
		if got, want := outcomeOf(nil, c), contract.OutcomeOf(nil, c); got != want {
			t.Errorf("%s is %s, want %s", c, got, want)
		}
		if got, want := outcomeOf(override, c), contract.OutcomeOf(call, c); got != want {
			t.Errorf("with the contract's outcomes, %s is %s, want %s", c, got, want)
		}
	}
}
