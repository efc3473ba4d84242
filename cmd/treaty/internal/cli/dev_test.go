package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDevUsage(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("wrong.yaml", []byte("processes:\n  - name: a\n    comand: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"no file":     {[]string{"dev"}, "treaty.dev.yaml: "},
		"two files":   {[]string{"dev", "a", "b"}, "doesn't take"},
		"unknown key": {[]string{"dev", "wrong.yaml"}, "wrong.yaml: line 3: the key comand is unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			got := run(t, setup{args: test.args})
			if got.code != 2 || !strings.Contains(got.stderr, test.want) {
				t.Errorf("exit code %d, %q; want 2 and %q", got.code, got.stderr, test.want)
			}
		})
	}
}

// TestDevQuits starts a process and quits.
func TestDevQuits(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f.yaml")
	if err := os.WriteFile(file, []byte("processes:\n  - name: a\n    command: sleep 1000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := run(t, setup{args: []string{"dev", file}, stdin: "r b\nq\n"})
	ended := strings.Contains(got.stdout, "all processes have ended")
	if got.code != 0 || !ended || strings.Contains(got.stdout, "\x1b") {
		t.Errorf("exit code %d:\n%s%s", got.code, got.stdout, got.stderr)
	}
}
