package cli

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/treatyhq/treaty/cmd/treaty/internal/servertest"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// TestDecisionsHaveEtags decides about sagas. The orchestrator is told which etag the person, or this program, has
// seen.
func TestDecisionsHaveEtags(t *testing.T) {
	for args, want := range map[string][]string{
		"resume stuck-2":                               {"seen-stuck-2"},
		"resume stuck-2 --etag mine":                   {"mine"},
		"resume stuck-1 --mark-done={}":                {"seen-stuck-1"},
		"resume stuck-1 --mark-done={} --etag x":       {"x"},
		`resume --filter state="SUSPENDED" --yes`:      {"seen-stuck-1", "seen-stuck-2"},
		"cancel stuck-2":                               {""},
		"cancel stuck-2 --etag mine":                   {"mine"},
		`cancel --filter state="SUSPENDED" --yes`:      {"seen-stuck-1", "seen-stuck-2"},
		"complete stuck-1/1 --reply={}":                {"seen-stuck-1"},
		"complete stuck-1/1 --reply={} --etag x":       {"x"},
		"complete stuck-1/1 --refuse ABORTED":          {""},
		"complete stuck-1/1 --refuse ABORTED --etag x": {"x"},
		"complete stuck-1/1 --refuse ABORTED --force":  {", forced"},
	} {
		t.Run(args, func(t *testing.T) {
			f := servertest.New(t)
			f.Sagas = []*treatyv1.Saga{
				suspended(t, "stuck-1", treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_REFUSED),
				suspended(t, "stuck-2", treatyv1.SuspensionReason_SUSPENSION_REASON_MISMATCH),
			}
			s := setup{address: f.Address, args: append([]string{"sagas", "--reason", "why"}, strings.Fields(args)...)}
			s.args[1], s.args[2], s.args[3] = s.args[3], s.args[1], s.args[2]
			if out := run(t, s); out.code != 0 {
				t.Fatalf("exit %d: %s", out.code, out.stderr)
			}
			var got []string
			for _, request := range f.Requests() {
				switch request := request.(type) {
				case *treatyv1.ResumeSagaRequest:
					got = append(got, request.GetEtag())
				case *treatyv1.CancelSagaRequest:
					got = append(got, request.GetEtag())
				case *treatyv1.CompleteStepRequest:
					etag := request.GetEtag()
					if request.GetForce() {
						etag += ", forced"
					}
					got = append(got, etag)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("etags (-want +got):\n%s", diff)
			}
		})
	}
}
