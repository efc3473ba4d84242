//go:build unix

package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// fillStore is an environment variable with the path of a store. If it is set, the test fills the store.
const fillStore = "TREATY_TEST_FILL_STORE"

// TestFileSizeLimit writes to a file that can't grow, with the operating system's own error instead of an injected one.
// The limit holds for a process, so the test runs in another process.
func TestFileSizeLimit(t *testing.T) {
	if path := os.Getenv(fillStore); path != "" {
		if err := fill(t.Context(), path); err != nil {
			t.Fatal(err)
		}
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFileSizeLimit$")
	cmd.Env = append(os.Environ(), fillStore+"="+filepath.Join(t.TempDir(), "sagas.db"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// fill writes until the file can't grow, checks what was acknowledged, and writes again without the limit.
func fill(ctx context.Context, path string) error {
	signal.Ignore(syscall.SIGXFSZ)
	store, err := Open(ctx, path, journal.Opening{})
	if err != nil {
		return err
	}
	var free unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &free); err != nil {
		return fmt.Errorf("read the limit: %w", err)
	}
	limited := free
	limited.Cur = 1 << 20
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limited); err != nil {
		return fmt.Errorf("set the limit: %w", err)
	}
	const enough = 1000
	data := bytes.Repeat([]byte("x"), 10_000)
	saga := func(id string) []*journal.Entry {
		row := &journal.Row{ID: id, Definition: "X/Y", State: treatyv1.SagaState_SAGA_STATE_RUNNING}
		return []*journal.Entry{{Saga: id, Turn: 1, Data: data, Row: row}}
	}
	written := 0
	for err == nil && written < enough {
		if err = store.Append(ctx, saga(fmt.Sprintf("s%d", written))); err == nil {
			written++
		}
	}
	if !errors.Is(err, journal.ErrFull) {
		return fmt.Errorf("after %d sagas: got the error %w, want ErrFull", written, err)
	}
	rows, err := store.List(ctx, journal.ListParams{Limit: enough})
	if err != nil || len(rows) != written {
		return fmt.Errorf("%d sagas are listed, %d were acknowledged: %w", len(rows), written, err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &free); err != nil {
		return fmt.Errorf("lift the limit: %w", err)
	}
	return errors.Join(store.Append(ctx, saga("one more")), store.check(ctx), store.Close())
}
