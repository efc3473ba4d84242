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
	// ExitOK: it was asked to stop, or for help.
	ExitOK = 0

	// ExitFailure: it can't serve, or stopped serving; stderr says why.
	ExitFailure = 1

	// ExitUsage: the command line or the environment is wrong; stderr says where.
	ExitUsage = 2
)

// Main is a whole program: it reads flags and TREATY_* variables, registers saga definitions, and serves until SIGINT or SIGTERM. A second
// signal ends it at once. It returns the exit code for os.Exit. See docs/operating.md, or --help.
func Main(register func(saga.Registrar)) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // so that a second signal is not caught
	return program{
		name: filepath.Base(os.Args[0]), args: os.Args[1:], stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv, register: register,
	}.run(ctx)
}

// program is what a run of Main depends on.
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
