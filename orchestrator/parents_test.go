package orchestrator

import (
	"log/slog"
	"slices"
	"testing"

	"github.com/treatyhq/treaty/internal/testkit"
)

// TestParentIdentities checks whose calls count as those of parents' orchestrators.
func TestParentIdentities(t *testing.T) {
	dir := t.TempDir()
	authority := testkit.NewAuthority(t)
	cert, key := authority.Issue(t, "").Write(t, dir, "api")
	mutual := []Option{WithTLS(cert, key), WithClientCA(testkit.WriteFile(t, dir, "ca.pem", authority.PEM()))}
	parent := WithParentIdentity("spiffe://acme.example/sagas")
	for _, test := range []struct {
		name    string
		options []Option
		want    []string
		invalid bool
	}{
		{"by default", nil, nil, false},
		{"with client certificates", mutual, nil, false},
		{"declared, with client certificates", append(mutual[:2:2], parent), []string{"spiffe://acme.example/sagas"},
			false},
		{"declared, without client certificates", []Option{parent}, nil, true},
		{"everybody", []Option{WithParentIdentity(AnyParent)}, []string{AnyParent}, false},
		{"insecure", []Option{WithInsecure()}, []string{AnyParent}, false},
		{"insecure, with client certificates", append(mutual[:2:2], WithInsecure()), nil, false},
		{"empty", append(mutual[:2:2], WithParentIdentity("")), nil, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			o, err := New(append(test.options, WithLogger(slog.New(slog.DiscardHandler)))...)
			if (err != nil) != test.invalid {
				t.Fatalf("got %v", err)
			}
			if err == nil && !slices.Equal(o.parents, test.want) {
				t.Errorf("got %q, want %q", o.parents, test.want)
			}
		})
	}
}
