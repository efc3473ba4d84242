// Command treaty is the operator's tool: it starts, finds, watches, cancels and repairs sagas through the
// orchestrator's public gRPC API.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/treatyhq/treaty/cmd/treaty/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Run(ctx, cli.System())
	stop()
	os.Exit(code)
}
