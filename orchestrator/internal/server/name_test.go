package server

import "testing"

// A parsed command id has the same text when it is built again.
func FuzzCommandID(f *testing.F) {
	for _, id := range []string{"sagas/a1/steps/2.1.4", "sagas/a1/steps/r2.1", "sagas/a1", "sagas/A/steps/1",
		"sagas/a/steps/1/steps/2", "sagas//steps/", "sagas/a/steps/1."} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		saga, step, ok := parseCommandID(id)
		if ok && (command{saga: saga, step: step}).id() != id {
			t.Errorf("%q is parsed as %q and %q", id, saga, step)
		}
	})
}
