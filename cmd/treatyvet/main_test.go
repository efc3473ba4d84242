package main_test

import (
	"errors"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	root   = "../.."
	sagas  = "./orchestrator/saga/sagavet/testdata/"
	forVet = "-vettool="
)

// TestVet runs treatyvet under go vet, where each package is read by a process of its own, and by itself. The sagas of
// the example company and of the benchmark have no mistakes.
func TestVet(t *testing.T) {
	watchSource(t)
	tool := filepath.Join(t.TempDir(), "treatyvet")
	if out, failed := run(t, "go", "build", "-o", tool, "./cmd/treatyvet"); failed {
		t.Fatalf("building treatyvet: %s", out)
	}
	for _, test := range []struct {
		name    string
		command []string
		finds   []string // all lines with a finding, by their ends
	}{
		{"the example company", []string{"go", "vet", forVet + tool, "./services/sagas", "./bench"}, nil},
		{"sagas without mistakes", []string{"go", "vet", forVet + tool, sagas + "fine"}, nil},
		{
			"functions of other packages", []string{"go", "vet", forVet + tool, sagas + "follow"},
			[]string{"(clock)", "(file)", "(environment)", "(clock)", "(clock)", "(clock)", "(clock)"},
		},
		{
			"silenced lines", []string{tool, sagas + "allowed"}, []string{"(clock)", "(allow)", "(clock)"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			out, failed := run(t, test.command...)
			var found []string
			for line := range strings.Lines(out) {
				if at := strings.LastIndex(line, " ("); at >= 0 && strings.Contains(line, ".go:") {
					found = append(found, strings.TrimSpace(line[at:]))
				}
			}
			if strings.Join(found, " ") != strings.Join(test.finds, " ") || failed != (test.finds != nil) {
				t.Errorf("found %q, failed: %t; want %q:\n%s", found, failed, test.finds, out)
			}
		})
	}
}

// run runs a command in the module's folder. It returns what it prints, and whether it has failed.
func run(t *testing.T, command ...string) (out string, failed bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Dir = root
	printed, err := cmd.CombinedOutput()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatalf("running %s: %v", command, err)
	}
	return string(printed), err != nil
}

// watchSource reads folders in this process, so that go test doesn't reuse a result after a file in them was changed:
// it doesn't see what the go command reads.
func watchSource(t *testing.T) {
	t.Helper()
	for _, dir := range []string{"bench", "gen", "orchestrator/saga", "services/sagas"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(_ string, _ fs.DirEntry, err error) error { return err })
		if err != nil {
			t.Fatal(err)
		}
	}
}
