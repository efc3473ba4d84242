package testkit

import (
	"log/slog"
	"testing"
)

// Logger returns a logger whose records are shown when the test fails.
func Logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}
