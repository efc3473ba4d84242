package cli

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/servertest"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// TestResumeSettles resumes a saga that is suspended again a moment after the decision was recorded.
func TestResumeSettles(t *testing.T) {
	const refused = treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_REFUSED
	resumed := suspended(t, "stuck-1", refused)
	resumed.State, resumed.Suspension = treatyv1.SagaState_SAGA_STATE_COMPENSATING, nil
	resumed.UpdateTime = timestamppb.New(servertest.Resumed)
	again := suspended(t, "stuck-1", refused)
	again.UpdateTime = timestamppb.New(servertest.Resumed.Add(9 * time.Millisecond))
	ended := compensated(t)
	ended.Name, ended.UpdateTime = "sagas/stuck-1", again.GetUpdateTime()
	for _, c := range []struct {
		name   string
		stage  servertest.Stage
		settle time.Duration
		flags  []string
		code   int
	}{
		{"resume_suspended_again", servertest.Stage{Sagas: []*treatyv1.Saga{resumed, again}}, time.Minute, nil,
			problem.ExitFailure},
		{"resume_suspended_again_json", servertest.Stage{Sagas: []*treatyv1.Saga{resumed, again}}, time.Minute,
			[]string{"--json"}, problem.ExitFailure},
		{"resume_ended", servertest.Stage{Sagas: []*treatyv1.Saga{resumed, ended}}, time.Minute, nil, problem.ExitOK},
		{"resume_unwatched", servertest.Stage{Err: status.Error(codes.Unavailable, "going down")}, time.Minute, nil,
			problem.ExitOK},
		{"resume_unchanged", servertest.Stage{Sagas: []*treatyv1.Saga{resumed}, Stays: true}, time.Millisecond, nil,
			problem.ExitOK},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := servertest.New(t)
			full(t, f)
			f.Streams = []servertest.Stage{c.stage}
			s := setup{address: f.Address, settle: c.settle,
				args: append([]string{"sagas", "resume", "stuck-1", "--reason", "fixed"}, c.flags...)}
			got := run(t, s)
			golden(t, c.name, s, got)
			if got.code != c.code {
				t.Errorf("exit %d, want %d", got.code, c.code)
			}
		})
	}
}
