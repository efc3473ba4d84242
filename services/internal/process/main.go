package process

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/treatyhq/treaty/participant"
)

// Main is a service's main function. It sets slog's default logger to JSON lines on standard error, runs the service
// until the first SIGTERM or SIGINT, and ends the process. A second signal ends it at once.
//
// The exit code is 0 after a clean stop and after --help, 2 for a wrong flag or argument, and 1 for any other error. An
// error is printed to standard error in one line.
func Main(service Service) {
	handler := slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo})
	slog.SetDefault(slog.New(participant.LogHandler(handler)))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	err := run(ctx, service, os.Args[1:])
	stop()
	var usage *usageError
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		os.Exit(0)
	case errors.As(err, &usage):
		fmt.Fprintf(os.Stderr, "%s: %v\nRun it with --help for its flags.\n", service.Name, err)
		os.Exit(2)
	default:
		fmt.Fprintf(os.Stderr, "%s: %v\n", service.Name, err)
		os.Exit(1)
	}
}
