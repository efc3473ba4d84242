package dev

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseRefuses(t *testing.T) {
	const one = "processes:\n  - name: a\n    command: x\n"
	for name, test := range map[string]struct{ file, want string }{
		"nothing":     {"", "f.yaml has no processes: list at least one"},
		"not YAML":    {"processes: [", "f.yaml: line 1: "},
		"unknown key": {one + "    comand: y\n", "f.yaml: line 4: the key comand is unknown; see treaty dev --help"},
		"unknown top": {one + "orchestrators: y\n", "f.yaml: line 4: the key orchestrators is unknown"},
		"doubled key": {one + "    command: y\n", `f.yaml: line 4: mapping key "command" already defined at line 3`},
		"one name": {one + "  - name: a\n    command: y\n",
			`line 4: two processes are named "a", the first in line 2`},
		"no name":       {"processes:\n  - command: y\n", `line 2: a process needs a name without spaces, not ""`},
		"own name":      {"processes:\n  - name: treaty\n    command: y\n", `line 2: "treaty" is the name before`},
		"no command":    {"processes:\n  - name: a\n", `line 2: the process "a" has no command`},
		"empty command": {"processes:\n  - name: a\n    command: []\n", "line 3: want a program and its arguments"},
		"shell": {
			"processes:\n  - name: a\n    command: x && y\n", `line 3: "x && y" needs a shell or quotes`,
		},
		"not a port":      {one + "    ready: there\n", `line 2: ready of "a" isn't a host:port`},
		"a tab":           {"\tprocesses:\n", "f.yaml: line 1: found character that cannot start any token"},
		"two documents":   {one + "---\nprocesses: []\n", "f.yaml: line 4: a second document: keep one"},
		"a map of them":   {"processes:\n  a:\n    command: x\n", "f.yaml: line 2: want a list, not keys and values"},
		"a text of paths": {one + "    stores: a.db\n", "f.yaml: line 4: want a list, not the text a.db"},
		"a list of dirs":  {one + "    dir: [a, b]\n", "f.yaml: line 4: want a text, not a list"},
		"a list of env":   {one + "    env: [A=b]\n", "f.yaml: line 4: want keys and values, not a list"},
		"a name":          {"processes: [a]\n", "f.yaml: line 1: want keys and values, not the text a"},
		"no address": {one + "orchestrator: there\n",
			`f.yaml: line 4: orchestrator "there" isn't HOST:PORT or unix:PATH`},
		"one port": {one + "    ready: h:1\n  - name: b\n    command: y\n    ready: h:1\n",
			`line 5: ready of "b" is h:1, which is that of "a"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("f.yaml", []byte(test.file))
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "dev.") ||
				strings.Contains(err.Error(), "!!") {
				t.Errorf("Parse: %v, want %q", err, test.want)
			}
		})
	}
}

// TestRead makes paths absolute, and watches the folders that the commands name.
func TestRead(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "cmd"), 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "f.yaml")
	const text = "processes:\n  - name: a\n    build: go build ./cmd ./none\n" +
		"    command: [x, 'a b']\n    stores: [a.db]\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Read(file)
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{Processes: []Process{{
		Name: "a", Build: Command{"go", "build", "./cmd", "./none"}, Command: Command{"x", "a b"}, Dir: dir,
		Watch: []string{filepath.Join(dir, "cmd")}, Stores: []string{filepath.Join(dir, "a.db")},
	}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Read (-want +got):\n%s", diff)
	}
}
