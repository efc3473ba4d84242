package conformance

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	const command = "commands:\n  - method: a.v1.A/Do\n    request: {}\n"
	for name, test := range map[string]struct{ text, want string }{
		"whole":       {"address: 127.0.0.1:1\n" + command, ""},
		"empty":       {"", "f.yaml has no commands: list at least one"},
		"unknown key": {"addresses: 127.0.0.1:1\n" + command, "f.yaml: line 1: field addresses not found"},
		"key twice": {
			"address: a\naddress: b\n" + command, `line 2: mapping key "address" already defined at line 1`,
		},
		"not YAML":     {"commands: [", "f.yaml: "},
		"no method":    {"commands:\n  - request: {}\n", "f.yaml: line 2: a command needs a method"},
		"not a method": {"commands:\n  - method: Do\n    request: {}\n", `not "Do"`},
		"no request":   {"commands:\n  - method: a.v1.A/Do\n", "line 2: a.v1.A/Do needs a request that succeeds"},
		"listed twice": {
			command + "  - method: a.v1.A/Do\n    request: {}\n", "line 4: a.v1.A/Do was already listed in line 2",
		},
		"two probes": {
			command + "    effects: {run: [x], call: a.v1.A/List, count: n}\n", "has run and call: keep one",
		},
		"no count":       {command + "    effects: {call: a.v1.A/List}\n", "has a call and no count"},
		"count alone":    {command + "    effects: {count: items}\n", "effects has no call"},
		"a text request": {"commands:\n  - method: a.v1.A/Do\n    request: text\n", "line 3: cannot unmarshal"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("f.yaml", []byte(test.text))
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("%v, want %q in it", err, test.want)
			}
		})
	}
}

func TestValues(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f.yaml")
	text := "commands:\n  - method: a.v1.A/Do\n" +
		"    request: {a: ['${who}-${unique}'], b: {c: '${who}'}, n: 3, p: '$${who}'}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Read(file, nil)
	if err == nil || !strings.Contains(err.Error(), "${who} has no value: add --set who=VALUE") {
		t.Errorf("without a value: %v", err)
	}
	read, err := Read(file, map[string]string{"who": "x"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := read.Commands[0].Request.json(map[string]string{"who": "x", "unique": "1"})
	if want := `{"a":["x-1"],"b":{"c":"x"},"n":3,"p":"$x"}`; err != nil || string(got) != want {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
}

// FuzzParse checks that no file makes the parser panic.
func FuzzParse(f *testing.F) {
	f.Add([]byte("commands:\n  - method: a.v1.A/Do\n    request: {a: 1}\n    effects: {run: [x]}\n"))
	f.Add([]byte("commands: [1, {}, null]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if file, err := Parse("f.yaml", data); err == nil && len(file.Commands) == 0 {
			t.Error("a file without commands was read")
		}
	})
}
