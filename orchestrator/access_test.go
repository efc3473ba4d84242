package orchestrator

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/orchestrator/access"
)

// nobody allows nothing.
type nobody struct{}

func (nobody) Authorize(context.Context, access.Request) error { return context.Canceled }
func (nobody) Changed() <-chan struct{}                        { return nil }

// TestServesElsewhereOnlyWithRules starts orchestrators on this machine's addresses and on all others.
func TestServesElsewhereOnlyWithRules(t *testing.T) {
	dir := t.TempDir()
	cert, key := testkit.NewAuthority(t).Issue(t, "").Write(t, dir, "api")
	secure := WithTLS(cert, key)
	refusal := "nothing says who may do what: set a policy or an authorizer, listen on 127.0.0.1, or let every " +
		"caller do everything (open-access)"
	for _, test := range []struct {
		name, address string
		options       []Option
		refusal       string
		warning       bool
	}{
		{"this machine", "127.0.0.1:0", nil, "", false},
		{"this machine, over TLS", "127.0.0.1:0", []Option{secure}, "", false},
		{"elsewhere", "0.0.0.0:0", []Option{secure}, refusal, false},
		{"elsewhere, with rules", "0.0.0.0:0", []Option{secure, WithAuthorizer(nobody{})}, "", false},
		{"elsewhere, open", "0.0.0.0:0", []Option{secure, WithOpenAccess()}, "", true},
		{"elsewhere, over plaintext", "0.0.0.0:0", []Option{WithInsecure()}, "", true},
		{"elsewhere, over TLS, with plaintext to participants", "0.0.0.0:0", []Option{secure, WithInsecure()}, refusal,
			false},
		{"elsewhere, open, over plaintext", "0.0.0.0:0", []Option{WithOpenAccess()}, "it has no TLS", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			var log strings.Builder
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			o, err := New(append(test.options, WithStore(filepath.Join(t.TempDir(), "treaty.db")),
				WithLogger(slog.New(slog.NewTextHandler(&log, nil))), WithReady(func(Ready) { cancel() }))...)
			if err != nil {
				t.Fatal(err)
			}
			listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", test.address)
			if err != nil {
				t.Fatal(err)
			}
			err = o.Serve(ctx, listener)
			if (err == nil) != (test.refusal == "") || err != nil && !strings.Contains(err.Error(), test.refusal) {
				t.Errorf("got %v, want %q", err, test.refusal)
			}
			if strings.Contains(log.String(), "everybody who can connect may") != test.warning {
				t.Errorf("the log is %s", log.String())
			}
		})
	}
	if _, err := New(WithAuthorizer(nobody{}), WithOpenAccess()); err == nil {
		t.Error("access is open and has rules")
	}
}
