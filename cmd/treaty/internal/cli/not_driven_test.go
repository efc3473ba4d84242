package cli

import (
	"testing"

	"github.com/treatyhq/treaty/cmd/treaty/internal/servertest"
)

// TestListNotDriven lists the sagas of an orchestrator whose store was replaced.
func TestListNotDriven(t *testing.T) {
	for name, args := range map[string][]string{
		"list_not_driven":      {"sagas", "list", "--page-token", "page-2"},
		"list_not_driven_json": {"sagas", "list", "--page-token", "page-2", "--json"},
	} {
		t.Run(name, func(t *testing.T) {
			f := servertest.New(t)
			f.Sagas = append(f.Sagas, succeeded(t), compensated(t), running(t))
			f.NotDriven = replaced()
			s := setup{args: args, address: f.Address}
			golden(t, name, s, run(t, s))
		})
	}
}
