package render

import "testing"

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain ⏎ text": "plain ⏎ text", "\x1b[31m": `\u001b[31m`, "a\nb\tc\rd": `a\nb\tc\rd`,
		"\u202eevil": `\u202eevil`, "\u009b": `\u009b`,
		"\xff": `\ufffd`,
	} {
		if got := Clean(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
