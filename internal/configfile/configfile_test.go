package configfile

import (
	"fmt"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, test := range []struct{ name, file, want string }{
		{"empty", "", "{}"},
		{"comments only", "# nothing\n", "{}"},
		{"plain values", "store: treaty.db\nretention: 720h\ninsecure: true\nlimit: 0x10\nname: \"a: b\"\nlevel:\n",
			"{store=treaty.db retention=720h insecure=true limit=0x10 name=a: b level=}"},
		{"lists", "a: [x, 'y']\nb:\n  - 1\n  - c: 2\n    d: [3]\n", "{a=[x y] b=[1 {c=2 d=[3]}]}"},
		{"one entry", "a:\n  b: 1\n", "{a={b=1}}"},
		{"a long text", "a: >\n  one\n  two\n", "{a=one two\n}"},
		{"one document with dashes", "---\na: 1\n", "{a=1}"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := Parse("treaty.yaml", []byte(test.file))
			if err != nil {
				t.Fatal(err)
			}
			if text := show(got); text != test.want {
				t.Errorf("got %s, want %s", text, test.want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for _, test := range []struct{ name, file, want string }{
		{"a key twice", "a: 1\nb: 2\na: 3\n", "treaty.yaml:3:1: a is here twice, first in line 1: keep one"},
		{"a key twice, deeper", "a:\n  b: 1\n  b: 2\n", "treaty.yaml:3:3: "},
		{"no mapping", "- a\n", "treaty.yaml:1:1: want lines such as"},
		{"a text", "hello\n", "treaty.yaml:1:1: want lines such as"},
		{"tabs", "a:\n\tb: 1\n", "treaty.yaml:2:"},
		{"an open list", "a: [1, 2\n", "treaty.yaml:1: this isn't YAML"},
		{"an open quote", "a: \"b\n", "treaty.yaml:2: this isn't YAML"},
		{"an alias", "a: &x 1\nb: *x\n", "treaty.yaml:1:4: write the value itself"},
		{"a merge", "a: {b: 1}\n<<: {c: 2}\n", "treaty.yaml:2:"},
		{"a tag", "a: !!str 1\n", "treaty.yaml:1:4: write the value itself"},
		{"two documents", "a: 1\n---\nb: 2\n", "treaty.yaml:3:"},
		{"a list as a key", "? [a]\n: 1\n", "treaty.yaml:1:3: want a plain key"},
		{"too large", "a: " + strings.Repeat("x", MaxBytes), "treaty.yaml has"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := Parse("treaty.yaml", []byte(test.file))
			if err == nil {
				t.Fatalf("got %s, want an error", show(got))
			}
			if !strings.HasPrefix(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %q, want one line with the prefix %q", err, test.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"a: 1\n", "a: [b, {c: d}]\n", "? a\n: b\n", "a: |\n  b\n", "a: &b c\nd: *b\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		value, err := Parse("treaty.yaml", data)
		if err == nil && value.Kind != Mapping {
			t.Errorf("got %s, want a mapping", show(value))
		}
	})
}

// show returns a value as text.
func show(v *Value) string {
	var parts []string
	switch v.Kind {
	case Plain:
		return v.Text
	case List:
		for i := range v.Items {
			parts = append(parts, show(&v.Items[i]))
		}
		return fmt.Sprint(parts)
	case Mapping:
		for i := range v.Entries {
			parts = append(parts, v.Entries[i].Key+"="+show(&v.Entries[i].Value))
		}
	}
	return "{" + strings.Join(parts, " ") + "}"
}
