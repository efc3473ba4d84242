package render

import "testing"

func TestShellQuote(t *testing.T) {
	for in, want := range map[string]string{
		"": "''", "sagas/x": "sagas/x", "a b": "'a b'", "it's": `'it'\''s'`, "$(rm)": "'$(rm)'", "@f": "@f", "~": "'~'",
	} {
		if got := ShellQuote(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}
