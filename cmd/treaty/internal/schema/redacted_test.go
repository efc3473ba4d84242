package schema

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRedactedPlaces(t *testing.T) {
	for _, c := range []struct {
		name, in string
		want     []string
	}{
		{"none", `{"a":"[redacted","b":["x"],"redacted":1}`, nil},
		{"a field", `{"number":"[redacted]"}`, []string{"number"}},
		{"as the orchestrator writes it", `{"number":"[REDACTED]"}`, []string{"number"}},
		{"nested, in lists and maps", `{"card":{"number":"[redacted]"},"items":[{"a":1},{"note":"[redacted]"}],
			"spare":{"x":"[redacted]"}}`, []string{"card.number", "items[1].note", "spare.x"}},
		{"not JSON", `{"number":`, nil},
	} {
		if diff := cmp.Diff(c.want, RedactedPlaces([]byte(c.in))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}
