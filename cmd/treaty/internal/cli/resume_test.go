package cli

import (
	"slices"
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

// TestEditedFields edits some fields of the request of a stuck compensation. The orchestrator keeps the others.
func TestEditedFields(t *testing.T) {
	for name, c := range map[string]struct {
		fields string
		want   []string
		code   int
	}{
		"all":              {code: problem.ExitOK},
		"one":              {fields: "action.cents", want: []string{"action.cents"}, code: problem.ExitOK},
		"two":              {fields: "action.card.holder,reply", want: []string{"action.card.holder", "reply"}},
		"unknown":          {fields: "action.euros", code: problem.ExitUsage},
		"below no message": {fields: "action.cents.x", code: problem.ExitUsage},
	} {
		t.Run(name, func(t *testing.T) {
			f := servertest.New(t)
			full(t, f)
			s := setup{address: f.Address, settle: time.Millisecond, args: []string{
				"sagas", "resume", "stuck-1", "--reason", "typo", "--retry-edited", `{"action":{"cents":"5"}}`,
			}}
			if c.fields != "" {
				s.args = append(s.args, "--fields", c.fields)
			}
			got := run(t, s)
			if got.code != c.code {
				t.Fatalf("exit %d: %s", got.code, got.stderr)
			}
			if c.code != problem.ExitOK {
				return
			}
			sent := servertest.Last[*treatyv1.ResumeSagaRequest](t, f).GetRetryEdited().GetUpdateMask().GetPaths()
			if !slices.Equal(sent, c.want) {
				t.Errorf("sent the fields %q, want %q", sent, c.want)
			}
		})
	}
}
