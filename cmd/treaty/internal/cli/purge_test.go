package cli

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"

	"github.com/treatyhq/treaty/cmd/treaty/internal/servertest"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// TestPurge purges one saga and many.
func TestPurge(t *testing.T) {
	kept := failure(t, codes.FailedPrecondition, "the saga can't be purged: its parent may compensate it; purge the "+
		"parent, sagas/order-1, which purges both", &errdetails.ErrorInfo{Reason: "SAGA_KEPT", Domain: "treaty"})
	one := []string{"sagas", "purge", "order-1"}
	all := []string{"sagas", "purge", "--filter", `labels.customer = "c-7"`}
	const reason = "right to be forgotten"
	for _, c := range []struct {
		name   string
		args   []string
		fail   map[string]error
		purged []string // those that are tried
	}{
		{"purge", append(one[:3:3], "--reason", reason), nil, []string{"sagas/order-1"}},
		{"purge_json", append(one[:3:3], "--reason", reason, "--json"), nil, []string{"sagas/order-1"}},
		{"purge_kept", append(one[:3:3], "--reason", reason), map[string]error{"sagas/order-1": kept},
			[]string{"sagas/order-1"}},
		{"purge_without_reason", one, nil, nil},
		{"purge_all", append(all[:4:4], "--reason", reason, "--yes"), map[string]error{"sagas/order-2": kept},
			[]string{"sagas/order-1", "sagas/order-2", "sagas/doubt-1"}},
		{"purge_all_json", append(all[:4:4], "--reason", reason, "--yes", "--json"),
			map[string]error{"sagas/order-2": kept}, []string{"sagas/order-1", "sagas/order-2", "sagas/doubt-1"}},
		{"purge_all_without_yes", append(all[:4:4], "--reason", reason), nil, nil},
		{"purge_all_dry_run", append(all[:4:4], "--dry-run"), nil, nil},
		{"help_purge", []string{"sagas", "purge", "--help"}, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := servertest.New(t)
			f.Sagas = []*treatyv1.Saga{succeeded(t), compensated(t), doubtful(t)}
			f.FailFor = c.fail
			s := setup{address: f.Address, args: c.args}
			golden(t, c.name, s, run(t, s))
			var purged []string
			for _, request := range f.Requests() {
				switch request := request.(type) {
				case *treatyv1.PurgeSagaRequest:
					purged = append(purged, request.GetName())
					if request.GetDecision().GetReason() != reason {
						t.Errorf("sent %v", request)
					}
				case *treatyv1.ListSagasRequest:
					if !strings.HasPrefix(request.GetFilter(), purgeable+" AND (") {
						t.Errorf("listed by %s", request.GetFilter())
					}
				}
			}
			if diff := cmp.Diff(c.purged, purged); diff != "" {
				t.Errorf("purged (-want +got):\n%s", diff)
			}
		})
	}
}
