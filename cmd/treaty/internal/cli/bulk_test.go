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

// TestBulk resumes and cancels sagas on two pages.
func TestBulk(t *testing.T) {
	const overdue = treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_OVERDUE
	unfit := failure(t, codes.FailedPrecondition, "the saga is not suspended",
		&errdetails.ErrorInfo{Reason: "NOT_SUSPENDED", Domain: "treaty"})
	past := failure(t, codes.FailedPrecondition, "the saga is past its pivot",
		&errdetails.ErrorInfo{Reason: "PAST_PIVOT", Domain: "treaty"})
	resume := []string{"sagas", "resume", "--filter", `suspension_reason = "RESTORED_OVERDUE"`}
	retry := append(resume[:4:4], "--retry", "--reason", "compared", "--yes")
	cancel := []string{"sagas", "cancel", "--filter", `labels.customer = "c-7"`}
	withdraw := append(cancel[:4:4], "--reason", "compared", "--yes")
	whole := []string{"sagas/restored-1", "sagas/restored-2", "sagas/restored-3", "sagas/restored-4"}
	wide := &render.Screen{Width: 160, Height: 50}
	for _, c := range []struct {
		name    string
		setup   setup
		fail    map[string]error
		empty   bool
		decided []string // those that are tried
	}{
		{name: "resume_all", setup: setup{args: retry}, decided: whole},
		{name: "resume_all_json", setup: setup{args: append(retry[:8:8], "--json")}, decided: whole,
			fail: map[string]error{"sagas/restored-2": unfit}},
		{name: "resume_all_failed", setup: setup{args: retry}, decided: whole,
			fail: map[string]error{"sagas/restored-2": unfit, "sagas/restored-4": unfit}},
		{name: "resume_all_terminal", setup: setup{args: retry, screen: wide},
			decided: whole, fail: map[string]error{"sagas/restored-2": unfit}},
		{name: "resume_all_none", setup: setup{args: retry}, empty: true},
		{name: "resume_all_without_yes", setup: setup{args: retry[:7:7]}},
		{name: "resume_all_dry_run", setup: setup{args: append(resume[:4:4], "--dry-run")}},
		{name: "resume_all_dry_run_json", setup: setup{args: append(resume[:4:4], "--dry-run", "--json")}},
		{name: "cancel_all", setup: setup{args: withdraw}, decided: whole},
		{name: "cancel_all_failed", setup: setup{args: withdraw}, decided: whole,
			fail: map[string]error{"sagas/restored-3": past}},
		{name: "cancel_all_none", setup: setup{args: withdraw}, empty: true},
		{name: "cancel_all_without_yes", setup: setup{args: withdraw[:6:6]}},
		{name: "cancel_all_without_yes_json", setup: setup{args: append(withdraw[:6:6], "--json")}},
		{name: "cancel_all_dry_run", setup: setup{args: append(cancel[:4:4], "--dry-run", "--yes")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := servertest.New(t)
			for _, name := range whole {
				if !c.empty {
					f.Sagas = append(f.Sagas, suspended(t, strings.TrimPrefix(name, "sagas/"), overdue))
				}
			}
			f.FailFor, c.setup.address = c.fail, f.Address
			got := run(t, c.setup)
			golden(t, c.name, c.setup, got)
			if strings.HasSuffix(c.name, "_json") {
				validJSONLines(t, strings.NewReader(got.stdout))
			}
			list := servertest.Last[*treatyv1.ListSagasRequest](t, f)
			want := `state = "SUSPENDED" AND (suspension_reason = "RESTORED_OVERDUE")`
			if strings.HasPrefix(c.name, "cancel") {
				want = `(state = "RUNNING" OR state = "SUSPENDED") AND (labels.customer = "c-7")`
			}
			if list.GetFilter() != want || list.GetOrderBy() != "create_time" {
				t.Errorf("listed by %v, want the filter %s", list, want)
			}
			var decided []string
			for _, request := range f.Requests() {
				var reason string
				switch request := request.(type) {
				case *treatyv1.ResumeSagaRequest:
					decided, reason = append(decided, request.GetName()), request.GetDecision().GetReason()
					if request.GetRetry() == nil {
						t.Errorf("sent %v", request)
					}
				case *treatyv1.CancelSagaRequest:
					decided, reason = append(decided, request.GetName()), request.GetDecision().GetReason()
				default:
					continue
				}
				if reason != "compared" {
					t.Errorf("sent %v", request)
				}
			}
			if diff := cmp.Diff(c.decided, decided); diff != "" {
				t.Errorf("decided about (-want +got):\n%s", diff)
			}
		})
	}
}
