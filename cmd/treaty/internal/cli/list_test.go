package cli

import (
	"testing"

	"github.com/treatyhq/treaty/cmd/treaty/internal/servertest"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// TestListDamaged lists a saga whose journal can't be read.
func TestListDamaged(t *testing.T) {
	f := servertest.New(t)
	damaged := running(t)
	damaged.Damage = "the saga's journal can't be read, so the saga doesn't continue; " +
		"the orchestrator's log has the cause"
	f.Sagas = []*treatyv1.Saga{damaged, succeeded(t)}
	for name, args := range map[string][]string{
		"list_damaged": {"sagas", "list"}, "list_damaged_json": {"sagas", "list", "--json"},
	} {
		s := setup{args: args, address: f.Address}
		golden(t, name, s, run(t, s))
	}
}
