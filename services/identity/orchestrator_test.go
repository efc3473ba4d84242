package main

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestDialingTheOrchestrator(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "ca.pem")
	for _, test := range []struct {
		name              string
		orchestrator      orchestrator
		plaintextAnywhere bool
		want              string // part of the error; empty for none
	}{
		{name: "on this machine", orchestrator: orchestrator{address: "127.0.0.1:7080"}},
		{name: "on this machine by name", orchestrator: orchestrator{address: "localhost:7080"}},
		{name: "on this machine by IPv6", orchestrator: orchestrator{address: "[::1]:7080"}},
		{name: "elsewhere", orchestrator: orchestrator{address: "192.0.2.1:7080"},
			want: "plaintext is allowed on loopback addresses only"},
		{name: "elsewhere by name", orchestrator: orchestrator{address: "orchestrator:7080"},
			want: "plaintext is allowed on loopback addresses only"},
		{name: "elsewhere, insecure", orchestrator: orchestrator{address: "192.0.2.1:7080"}, plaintextAnywhere: true},
		{name: "without a port", orchestrator: orchestrator{address: "127.0.0.1"},
			want: "plaintext is allowed on loopback addresses only"},
		{name: "authorities missing", orchestrator: orchestrator{address: "192.0.2.1:7080", authorities: missing},
			want: missing},
	} {
		t.Run(test.name, func(t *testing.T) {
			connection, err := test.orchestrator.dial(test.plaintextAnywhere)
			if err == nil {
				if err := connection.Close(); err != nil {
					t.Error(err)
				}
			}
			if got := err != nil; got != (test.want != "") || got && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error about %q", err, test.want)
			}
		})
	}
}
