package cli

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"

	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
	"github.com/treatyhq/treaty/cmd/treaty/internal/servertest"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// TestResumeAll resumes sagas on two pages.
func TestResumeAll(t *testing.T) {
	const restored = treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED
	unfit := failure(t, codes.FailedPrecondition, "the saga is not suspended",
		&errdetails.ErrorInfo{Reason: "NOT_SUSPENDED", Domain: "treaty"})
	all := []string{"sagas", "resume", "--filter", `suspension_reason = "RESTORED"`}
	retry := append(all[:4:4], "--retry", "--reason", "compared")
	whole := []string{"sagas/restored-1", "sagas/restored-2", "sagas/restored-3", "sagas/restored-4"}
	for _, c := range []struct {
		name    string
		setup   setup
		fail    map[string]error
		empty   bool
		resumed []string // those that are tried
	}{
		{name: "resume_all", setup: setup{args: retry}, resumed: whole},
		{name: "resume_all_json", setup: setup{args: append(retry[:7:7], "--json")}, resumed: whole,
			fail: map[string]error{"sagas/restored-2": unfit}},
		{name: "resume_all_failed", setup: setup{args: retry}, resumed: whole,
			fail: map[string]error{"sagas/restored-2": unfit, "sagas/restored-4": unfit}},
		{name: "resume_all_terminal", setup: setup{args: retry, screen: &render.Screen{Width: 160, Height: 50}},
			resumed: whole, fail: map[string]error{"sagas/restored-2": unfit}},
		{name: "resume_all_none", setup: setup{args: retry}, empty: true},
		{name: "resume_all_dry_run", setup: setup{args: append(all[:4:4], "--dry-run")}},
		{name: "resume_all_dry_run_json", setup: setup{args: append(all[:4:4], "--dry-run", "--json")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := servertest.New(t)
			for _, name := range whole {
				if !c.empty {
					f.Sagas = append(f.Sagas, suspended(t, strings.TrimPrefix(name, "sagas/"), restored))
				}
			}
			f.FailFor, c.setup.address = c.fail, f.Address
			got := run(t, c.setup)
			golden(t, c.name, c.setup, got)
			if strings.HasSuffix(c.name, "_json") {
				validJSONLines(t, strings.NewReader(got.stdout))
			}
			list := servertest.Last[*treatyv1.ListSagasRequest](t, f)
			if want := `state = "SUSPENDED" AND (suspension_reason = "RESTORED")`; list.GetFilter() != want ||
				list.GetOrderBy() != "create_time" {
				t.Errorf("listed by %v, want the filter %s", list, want)
			}
			var resumed []string
			for _, request := range f.Requests() {
				request, is := request.(*treatyv1.ResumeSagaRequest)
				if !is {
					continue
				}
				resumed = append(resumed, request.GetName())
				if request.GetRetry() == nil || request.GetDecision().GetReason() != "compared" {
					t.Errorf("sent %v", request)
				}
			}
			if diff := cmp.Diff(c.resumed, resumed); diff != "" {
				t.Errorf("resumed (-want +got):\n%s", diff)
			}
		})
	}
}
