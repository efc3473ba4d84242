package orchestrator

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// givenSize is a store of a given size.
type givenSize int64

func (givenSize) Name() string         { return "sagas.db" }
func (s givenSize) Size() journal.Size { return journal.Size{Log: int64(s)} }

// TestLargeLog warns once per doubling, and says once that the log is small again.
func TestLargeLog(t *testing.T) {
	const mib = 1 << 20
	var out bytes.Buffer
	watched := &logSize{logger: slog.New(slog.NewTextHandler(&out, nil))}
	for i, look := range []struct {
		size int64
		want string // what the log says; empty for nothing
	}{
		{0, ""},
		{127 * mib, ""},
		{128 * mib, "has grown"},
		{200 * mib, ""},
		{100 * mib, ""},
		{256 * mib, "has grown"},
		{511 * mib, ""},
		{600 * mib, "log_bytes=629145600"},
		{64 * mib, ""},
		{32 * mib, "has shrunk"},
		{32 * mib, ""},
		{130 * mib, "has grown"},
	} {
		out.Reset()
		watched.store = givenSize(look.size)
		watched.look(t.Context())
		if got := out.String(); (look.want == "") != (got == "") || !strings.Contains(got, look.want) {
			t.Errorf("look %d, %d MiB: logged %q, want %q", i, look.size/mib, got, look.want)
		}
	}
}
