package render

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

func TestObstacles(t *testing.T) {
	down := &treatyv1.Failure{Code: int32(codes.Unavailable), Message: "connection refused"}
	missing := &treatyv1.Failure{Code: int32(codes.Unimplemented), Message: "no participant is configured for b.v1.B"}
	const scheduled, compensating = treatyv1.StepState_STEP_STATE_SCHEDULED, treatyv1.StepState_STEP_STATE_COMPENSATING
	for _, c := range []struct {
		name     string
		state    treatyv1.StepState
		attempts *treatyv1.Attempts
		want     string
	}{
		{"not tried", scheduled, nil, ""},
		{"tried once", scheduled, &treatyv1.Attempts{Count: 1, LastFailure: down, LastOutcome: "unknown"}, ""},
		{"fails", scheduled, &treatyv1.Attempts{Count: 3, LastFailure: down, LastOutcome: "unknown"},
			"sagas/x/steps/1 waits: attempts at b.v1.B/Do fail: UNAVAILABLE: connection refused"},
		{"down", scheduled, &treatyv1.Attempts{Count: 1, LastFailure: down, Parked: true},
			"sagas/x/steps/1 waits: the participant of b.v1.B/Do is down: UNAVAILABLE: connection refused"},
		{"down before the first attempt", scheduled, &treatyv1.Attempts{Parked: true},
			"sagas/x/steps/1 waits: the participant of b.v1.B/Do is down"},
		{"down for the compensation", compensating, &treatyv1.Attempts{Count: 1, Parked: true},
			"sagas/x/steps/1 waits: the participant of b.v1.B/Undo is down"},
		{"drifted", scheduled, &treatyv1.Attempts{Parked: true, ParkedReason: "b.v1.Request.x (b.proto): was a, is b"},
			"sagas/x/steps/1 waits: the contract of b.v1.B/Do has drifted: b.v1.Request.x (b.proto): was a, is b"},
		{"not configured", scheduled, &treatyv1.Attempts{Count: 1, LastFailure: missing, LastOutcome: "misdeployed"},
			"sagas/x/steps/1 waits: no participant serves b.v1.B/Do: " +
				"UNIMPLEMENTED: no participant is configured for b.v1.B"},
		{"accepted", scheduled, &treatyv1.Attempts{Count: 9, LastFailure: down, Accepted: true}, ""},
		{"done", treatyv1.StepState_STEP_STATE_DONE, &treatyv1.Attempts{Count: 9, LastFailure: down}, ""},
	} {
		saga := &treatyv1.Saga{Name: "sagas/x", Steps: []*treatyv1.Step{{
			Name: "sagas/x/steps/1", Method: "b.v1.B/Do", CompensationMethod: "b.v1.B/Undo", State: c.state,
			Attempts: c.attempts,
		}}}
		got := ""
		for _, obstacle := range Obstacles(saga) {
			got += obstacle.Text
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
	unserved := &treatyv1.Saga{Name: "sagas/x", Waits: []*treatyv1.Wait{{Wait: "2", Broadcast: "b.v1.B/Forget"}}}
	want := []Obstacle{{Key: "2 unserved", Text: "sagas/x waits to send b.v1.B/Forget until the orchestrator is " +
		"configured with participants for it"}}
	if diff := cmp.Diff(want, Obstacles(unserved)); diff != "" {
		t.Errorf("a broadcast without participants (-want +got):\n%s", diff)
	}
}
