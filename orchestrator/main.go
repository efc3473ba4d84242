package orchestrator

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/treatyhq/treaty/internal/progress"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// Main is a whole program. It reads flags and TREATY_* variables, calls register, and serves until SIGINT or SIGTERM. A
// second signal ends it at once. It returns the exit code for os.Exit. See docs/operating.md, or --help.
func Main(register func(saga.Registrar)) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal isn't caught
	return program{
		name: filepath.Base(os.Args[0]), args: os.Args[1:], stdout: os.Stdout, stderr: os.Stderr,
		getenv: os.Getenv, register: register, terminal: progress.IsTerminal(os.Stderr),
	}.run(ctx)
}
