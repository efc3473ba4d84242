package cli

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestInit writes a project where the page does, twice.
func TestInit(t *testing.T) {
	s := setup{args: []string{"init", "shop"}}
	files, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	got := run(t, s)
	again := run(t, s)
	t.Chdir(filepath.Dir(files))
	golden(t, "init", s, got)
	const want = "shop isn't empty: it has .gitignore, Makefile, README.md, buf.gen.yaml, buf.yaml, 6 more; " +
		"nothing was written"
	if again.code != 1 || !strings.Contains(again.stderr, want) {
		t.Errorf("the second time, it exits with %d and says %q, want %q", again.code, again.stderr, want)
	}
}

func TestInitUsage(t *testing.T) {
	got := run(t, setup{args: []string{"init", "one", "two"}})
	if got.code != 2 {
		t.Errorf("two folders: exit code %d, %s", got.code, got.stderr)
	}
}
