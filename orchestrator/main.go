package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/treatyhq/treaty/orchestrator/saga"
)

// The exit codes of Main.
const (
	// ExitOK says that the program was stopped by a signal, or asked for help.
	ExitOK = 0

	// ExitFailure says that the program can't serve or stopped serving, or that verify found something. Standard error
	// says why.
	ExitFailure = 1

	// ExitUsage says that a flag, an argument or an environment variable is wrong. Standard error says which.
	ExitUsage = 2
)

// Main is a whole program. It reads flags and TREATY_* variables, calls register, and serves until SIGINT or SIGTERM. A
// second signal ends it at once. It returns the exit code for os.Exit. See docs/operating.md, or --help.
func Main(register func(saga.Registrar)) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal isn't caught
	return program{
		name: filepath.Base(os.Args[0]), args: os.Args[1:], stdout: os.Stdout, stderr: os.Stderr,
		getenv: os.Getenv, register: register,
	}.run(ctx)
}

// program is what Main depends on.
type program struct {
	name           string
	args           []string
	stdout, stderr io.Writer
	getenv         func(string) string
	register       func(saga.Registrar)
}

// usageError is a wrong command line or environment.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func (p program) run(ctx context.Context) int {
	root := p.command()
	root.SetArgs(p.args)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return ExitOK
	}
	_, _ = fmt.Fprintf(p.stderr, "%s: %v\n", p.name, err)
	if _, ok := errors.AsType[usageError](err); ok {
		_, _ = fmt.Fprintf(p.stderr, "See %s --help.\n", p.name)
		return ExitUsage
	}
	return ExitFailure
}
