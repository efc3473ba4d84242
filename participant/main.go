package participant

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
)

// Main is the body of a participant's main function. It calls run with the command line's arguments and a context that ends at SIGTERM
// or SIGINT, after slog's default was set to JSON lines on standard error. It ends the process with 0 when run returns nil or
// the flags asked for help, with 2 for a wrong flag or argument (see [ParseFlags]), and with 1 for any other error, which it
// prints in one line.
func Main(name string, run func(ctx context.Context, args []string) error) {
	slog.SetDefault(NewLogger(os.Stderr, slog.LevelInfo))
	ctx, stop := SignalContext()
	err := run(ctx, os.Args[1:])
	stop()
	var usage *usageError
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		os.Exit(0)
	case errors.As(err, &usage):
		fmt.Fprintf(os.Stderr, "%s: %v\nRun it with --help for its flags.\n", name, err)
		os.Exit(2)
	default:
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// ParseFlags parses a participant's arguments, of which there are none but flags. Its errors are usage errors, see [Main]. The
// flag set's own output is used for --help alone.
func ParseFlags(flags *flag.FlagSet, args []string) error {
	flags.Init(flags.Name(), flag.ContinueOnError)
	usage := flags.Usage
	flags.Usage = func() {}
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		if usage == nil {
			fmt.Fprintf(flags.Output(), "Usage of %s:\n", flags.Name())
			flags.PrintDefaults()
		} else {
			usage()
		}
		return err
	case err != nil:
		return &usageError{err}
	case flags.NArg() > 0:
		return &usageError{fmt.Errorf("unexpected argument %q: it takes flags only", flags.Arg(0))}
	}
	return nil
}

type usageError struct{ cause error }

// Error returns what is wrong with the command line.
func (e *usageError) Error() string { return e.cause.Error() }

// Unwrap returns the cause.
func (e *usageError) Unwrap() error { return e.cause }
