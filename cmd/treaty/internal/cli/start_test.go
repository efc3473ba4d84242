package cli

import (
	"strings"
	"testing"

	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/servertest"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// TestStartAttaches starts sagas whose request ids were used before. A script that starts a saga must not take one that
// was compensated for one that runs.
func TestStartAttaches(t *testing.T) {
	undoing := compensated(t)
	undoing.State, undoing.EndTime = treatyv1.SagaState_SAGA_STATE_COMPENSATING, nil
	stuck := suspended(t, "stuck-1", treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_REFUSED)
	for _, c := range []struct {
		name  string
		saga  *treatyv1.Saga
		flags []string
		code  int
	}{
		{"start_attaches_compensated", compensated(t), nil, problem.ExitCompensated},
		{"start_attaches_compensated_json", compensated(t), []string{"--json"}, problem.ExitCompensated},
		{"start_attaches_succeeded", succeeded(t), nil, problem.ExitOK},
		{"start_attaches_suspended", stuck, nil, problem.ExitOK},
		{"start_attaches_compensating", undoing, nil, problem.ExitOK},
		{"start_attaches_running", running(t), nil, problem.ExitOK},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := servertest.New(t)
			f.Existing = c.saga
			s := setup{address: f.Address, args: append(
				[]string{"start", placeOrder, "--data", `{"customer":"c-7"}`, "--request-id", "r-1"}, c.flags...)}
			got := run(t, s)
			golden(t, c.name, s, got)
			if got.code != c.code {
				t.Errorf("exit %d, want %d", got.code, c.code)
			}
		})
	}
}

// TestStartTooLarge starts a saga with 5 MiB. gRPC refuses that, with the code that means "try again later" elsewhere.
func TestStartTooLarge(t *testing.T) {
	f := servertest.New(t)
	request := writeFile(t, "large.json", `{"customer":"`+strings.Repeat("x", 5<<20)+`"}`)
	got := run(t, setup{address: f.Address, args: []string{"start", placeOrder, "--data", "@" + request}})
	for _, want := range []string{"too large", "takes at most 4 MiB", "send a reference"} {
		if !strings.Contains(got.stderr, want) {
			t.Errorf("it doesn't say %q: %s", want, got.stderr)
		}
	}
	if strings.Contains(got.stderr, "Try again") || strings.Contains(got.stderr, "may have been started") {
		t.Errorf("it says to repeat the start: %s", got.stderr)
	}
	if got.code != problem.ExitFailure {
		t.Errorf("exit %d", got.code)
	}
}
