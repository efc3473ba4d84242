package cli

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/treatyhq/treaty/proto"
)

// TestProtosOfAProject writes the protos where the page does.
func TestProtosOfAProject(t *testing.T) {
	s := setup{args: []string{"protos", "proto"}}
	files, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	got := run(t, s)
	t.Chdir(filepath.Dir(files))
	golden(t, "protos", s, got)
}

// TestProtos writes the protos into an empty directory, again, and where another version has written some.
func TestProtos(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "proto")
	options := filepath.Join(dir, "treaty", "v1", "options.proto")
	var all []string
	if err := fs.WalkDir(proto.Sources, ".", func(name string, entry fs.DirEntry, err error) error {
		if !entry.IsDir() {
			all = append(all, filepath.Join(dir, filepath.FromSlash(name)))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	change := func() {
		if err := os.WriteFile(options, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		name   string
		before func()
		args   []string
		code   int
		stdout string
		stderr string
	}{
		{"empty", nil, []string{"protos", dir}, 0, strings.Join(all, "\n") + "\n", ""},
		{"again", nil, []string{"protos", dir}, 0, "", "All protos are there already.\n"},
		{
			"one differs", change, []string{"protos", dir}, 1, "",
			"nothing was written, since these files differ: " + options,
		},
		{"replaced", nil, []string{"protos", dir, "--replace"}, 0, options + "\n", ""},
		{"no directory", nil, []string{"protos"}, 2, "", "needs DIR"},
		{"a file", change, []string{"protos", options}, 1, "", "reading what is in " + options},
	} {
		t.Run(step.name, func(t *testing.T) {
			if step.before != nil {
				step.before()
			}
			got := run(t, setup{args: step.args})
			if got.code != step.code || got.stdout != step.stdout || !strings.Contains(got.stderr, step.stderr) ||
				step.stderr == "" && got.stderr != "" {
				t.Errorf("exit %d, stdout %q, stderr %q; want exit %d, stdout %q and %q",
					got.code, got.stdout, got.stderr, step.code, step.stdout, step.stderr)
			}
			if entries, err := filepath.Glob(filepath.Join(dir, "treaty", "v1", ".*")); err != nil || len(entries) > 0 {
				t.Errorf("left behind: %v, %v", entries, err)
			}
		})
	}
	want, err := proto.Sources.ReadFile("treaty/v1/journal.proto")
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, "treaty", "v1", "journal.proto"))
	if err != nil || string(got) != string(want) {
		t.Errorf("journal.proto differs from the source: %v", err)
	}
}
