package company

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// Store returns the file in which the orchestrator keeps its sagas.
func (c *Company) Store() string { return c.file("treaty.db") }

// Verify runs the upgrade gate of the orchestrator's program on its store, beside the orchestrator that runs, and
// returns what it said. The error says that the program can't go on with one of the open sagas, and holds what the gate
// said of it.
func (c *Company) Verify(ctx context.Context) (said string, err error) {
	cmd := exec.CommandContext(ctx, binary(filepath.Join(c.Dir, "bin"), Orchestrator), "verify", "--store", c.Store())
	out, err := cmd.CombinedOutput()
	said = strings.TrimSpace(string(out))
	if err != nil {
		return said, fmt.Errorf("%s: %w\n%s", cmd, err, said)
	}
	return said, nil
}
