package company

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// Store returns the file of the orchestrator's store.
func (c *Company) Store() string { return c.file("treaty.db") }

// Verify runs the upgrade gate of the orchestrator's program on its store, while the orchestrator is running, and
// returns its output. If the program can't continue an open saga, it returns an error that contains the output.
func (c *Company) Verify(ctx context.Context) (said string, err error) {
	cmd := exec.CommandContext(ctx, Binary(c.Programs, Orchestrator), "verify", "--store", c.Store())
	out, err := cmd.CombinedOutput()
	said = strings.TrimSpace(string(out))
	if err != nil {
		return said, fmt.Errorf("%s: %w\n%s", cmd, err, said)
	}
	return said, nil
}
