package process

import (
	"flag"
	"log/slog"
	"testing"
)

// TestMain keeps the services' log out of what a passing test prints. With -v it is printed.
func TestMain(m *testing.M) {
	flag.Parse()
	if !testing.Verbose() {
		slog.SetDefault(slog.New(slog.DiscardHandler))
	}
	m.Run()
}
