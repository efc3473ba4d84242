package company

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// module is the module that contains the programs.
const module = "github.com/treatyhq/treaty/services/"

// packages are the packages of the programs. A binary is named after the last element of its package.
var packages = map[string]string{
	Orchestrator: module + "sagas",
	Customer:     module + "customer",
	Identity:     module + "identity",
	Credit:       module + "credit",
	Card:         module + "card",
	Notification: module + "notification/go",
}

// Build compiles all programs into an existing directory. It needs Go, and must run in a directory of this module. The
// error contains the compiler's output.
func Build(ctx context.Context, dir string) error {
	root, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	return BuildFrom(ctx, root, dir)
}

// BuildFrom is Build with the sources in a directory that contains this module, which may be an earlier version of it.
func BuildFrom(ctx context.Context, root, dir string) error {
	args := append([]string{"build", "-o", dir + string(filepath.Separator)}, slices.Sorted(maps.Values(packages))...)
	if err := run(ctx, root, "go", args...); err != nil {
		return fmt.Errorf("building the company: %w", err)
	}
	return nil
}

// moduleRoot returns the directory of this module's go.mod.
func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/treatyhq/treaty").Output()
	if err != nil {
		return "", fmt.Errorf("finding the module github.com/treatyhq/treaty: "+
			"run this with Go installed, in a directory of the module: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// Binary returns the path of a process's program that Build compiled into a directory.
func Binary(dir, name string) string {
	return filepath.Join(dir, path.Base(packages[name])+executableSuffix)
}

// run runs a program to its end. The error contains its output.
func run(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, strings.TrimSpace(said.String()))
	}
	return nil
}
