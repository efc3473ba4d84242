package cli

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/treatyhq/treaty/cmd/treaty/internal/dev"
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
	const want = "shop isn't empty: it has .gitignore, Makefile, README.md, buf.gen.yaml, buf.yaml, 7 more; " +
		"nothing was written"
	if again.code != 1 || !strings.Contains(again.stderr, want) {
		t.Errorf("the second time, it exits with %d and says %q, want %q", again.code, again.stderr, want)
	}
}

// TestInitDevFile compares the project's treaty.dev.yaml with the files that say where its processes listen and store.
func TestInitDevFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "shop")
	if got := run(t, setup{args: []string{"init", dir}}); got.code != 0 {
		t.Fatal(got.stderr)
	}
	config, err := dev.Read(filepath.Join(dir, "treaty.dev.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	says := map[string]string{
		"stock": "stock/main.go", "payment": "payment/main.go", "orders": "orders/orchestrator.yaml",
	}
	for _, p := range config.Processes {
		text, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(says[p.Name])))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range append(slices.Clone(p.Stores), p.Ready) {
			want = strings.TrimPrefix(want, dir+string(filepath.Separator))
			if !strings.Contains(string(text), want) {
				t.Errorf("%s has %s, but %s doesn't", p.Name, want, says[p.Name])
			}
		}
		for _, path := range p.Watch {
			if info, err := os.Stat(path); err != nil || !info.IsDir() {
				t.Errorf("%s watches %s, which is no folder", p.Name, path)
			}
		}
	}
	if len(config.Processes) != len(says) {
		t.Errorf("it has %d processes, want %d", len(config.Processes), len(says))
	}
}

func TestInitUsage(t *testing.T) {
	got := run(t, setup{args: []string{"init", "one", "two"}})
	if got.code != 2 {
		t.Errorf("two folders: exit code %d, %s", got.code, got.stderr)
	}
}
