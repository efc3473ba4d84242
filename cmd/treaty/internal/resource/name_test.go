package resource

import (
	"strings"
	"testing"
)

func TestParseSaga(t *testing.T) {
	for text, want := range map[string]string{
		"x": "sagas/x", "sagas/x": "sagas/x", "": "", "sagas/": "", "sagas/x/steps/1": "", "a b": "", "a\n": "",
	} {
		if got, ok := ParseSaga(text); got != want || ok != (want != "") {
			t.Errorf("%q: %q, %t, want %q", text, got, ok, want)
		}
	}
}

func TestParseStep(t *testing.T) {
	for text, want := range map[string][2]string{
		"x/2":                 {"sagas/x", "sagas/x/steps/2"},
		"sagas/x/steps/2.1":   {"sagas/x", "sagas/x/steps/2.1"},
		"x/steps/r3.4":        {"sagas/x", "sagas/x/steps/r3.4"},
		"sagas/x/2":           {"sagas/x", "sagas/x/steps/2"},
		"steps/2":             {"sagas/steps", "sagas/steps/steps/2"},
		"x/2\n":               {},
		"x":                   {},
		"x/":                  {},
		"/2":                  {},
		"sagas/x/steps/":      {},
		"sagas/x/steps/1/2":   {},
		"sagas/x y/steps/1":   {},
		"sagas/x/records/1-1": {},
	} {
		saga, step, ok := ParseStep(text)
		if saga != want[0] || step != want[1] || ok != (want[0] != "") {
			t.Errorf("%q: %q, %q, %t, want %q", text, saga, step, ok, want)
		}
	}
}

// FuzzParse reads names. One that is accepted is read the same again, and has nothing in it that a name can't have.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"x", "sagas/x", "x/2", "sagas/x/steps/2.1", "sagas/x/steps/1/2", "/", "\x1b[2J", "a\x00b",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if name, ok := ParseSaga(text); ok {
			if again, ok := ParseSaga(name); !ok || again != name || strings.ContainsAny(name, spaces) {
				t.Errorf("%q is read as %q, and that as %q, %t", text, name, again, ok)
			}
		}
		if saga, step, ok := ParseStep(text); ok {
			again, same, ok := ParseStep(step)
			if !ok || again != saga || same != step || !strings.HasPrefix(step, saga+"/") {
				t.Errorf("%q is read as %q of %q, and that as %q of %q, %t", text, step, saga, same, again, ok)
			}
			if _, ok := ParseSaga(saga); !ok {
				t.Errorf("%q is read as a step of %q, which is no saga", text, saga)
			}
		}
	})
}
