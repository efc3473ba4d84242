// Command demo starts Acme on this machine: the orchestrator and five services, each a process with its own database.
// It shows what sagas do: some succeed, some are refused and compensated, some sleep or wait for events, and one
// survives a kill -9 of its orchestrator. It needs only Go. The notification service runs on Node if that is installed.
//
//	go run ./services/demo          stays up afterwards and shows how to call it
//	go run ./services/demo --once   exits afterwards, with code 0 only if all services agree
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/treatyhq/treaty/services/demo/company"
)

// These take hours in real life. Here they are short, but long enough to see.
const (
	// registerLatency is how long the identity service's third party takes to answer: long enough for a kill in
	// between.
	registerLatency = 400 * time.Millisecond

	// inspectionTakes is how long a clerk takes to inspect a passport.
	inspectionTakes = 300 * time.Millisecond

	// registerDecidesAfter is how long after a registration the third party publishes its decision.
	registerDecidesAfter = time.Second
)

// The exit codes.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(start(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// options are the values of the flags.
type options struct {
	once, verbose bool
	dir           string
}

// errUsage means that the command line is wrong. The reason was printed already.
var errUsage = errors.New("wrong command line")

func parse(args []string, stderr io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.BoolVar(&o.once, "once", false, "exit at the end, with code 0 only if all services agree")
	flags.BoolVar(&o.verbose, "verbose", false, "show what the processes log")
	flags.StringVar(&o.dir, "dir", "",
		"keep databases and logs in this empty or new `directory` (default: a temporary one, removed at the end)")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, err
		}
		return o, errUsage
	}
	if flags.NArg() > 0 {
		_, _ = fmt.Fprintf(stderr, "demo: unexpected argument %q: the demo takes flags only; see --help\n",
			flags.Arg(0))
		return o, errUsage
	}
	return o, nil
}

// start runs the demo and returns its exit code.
func start(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return exitUsage
	}
	d := &demo{options: o, out: newPrinter(stdout), stderr: &lockedWriter{out: stderr}}
	err = d.run(ctx)
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil:
		_, _ = fmt.Fprintln(stderr, "demo: interrupted")
		return exitInterrupted
	default:
		d.explain(err)
		return exitFailed
	}
}

// demo is one run.
type demo struct {
	options

	out    *printer
	stderr io.Writer

	company *company.Company
	ada     string // the customer who moves
	curies  string // the saga of a family's cards
	shown   int
	starts  starts
	failed  []string // checks that failed
}

// errDisagree means that the services don't store what they should.
var errDisagree = errors.New("not everything is as it should be")

// run shows everything. It always ends the company's processes, and removes the data unless it must be kept.
func (d *demo) run(ctx context.Context) (err error) {
	dir, remove, err := workspace(d.dir)
	if err != nil {
		return err
	}
	d.out.title("Treaty: several services, one outcome")
	d.out.para("Building Acme's orchestrator and its five services ...")
	interrupted := ctx.Done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	params := company.Params{
		Dir: dir, RegisterLatency: registerLatency, RegisterDecidesAfter: registerDecidesAfter,
		InspectionTakes: inspectionTakes,
	}
	if d.verbose {
		params.Verbose = func(process string) io.Writer { return &prefixWriter{prefix: process, out: d.stderr} }
	}
	d.company, err = company.Open(ctx, params)
	defer func() {
		err = errors.Join(err, d.company.Close())
		select {
		case <-interrupted:
			err = errors.Join(err, remove())
			return
		default:
		}
		if err == nil {
			err = remove()
		} else if d.dir == "" {
			d.out.para("Databases and logs are kept in " + dir)
		}
	}()
	if err != nil {
		return err
	}
	go func() {
		select {
		case died := <-d.company.Died():
			cancel(died)
		case <-ctx.Done():
		}
	}()
	if err := d.present(ctx); err != nil {
		if died := new(company.DiedError); errors.As(context.Cause(ctx), &died) {
			return died
		}
		return err
	}
	return nil
}

// present shows the company and all stories, and stays up unless --once is set.
func (d *demo) present(ctx context.Context) error {
	d.introduce()
	stories := []func(context.Context) error{
		d.open, d.changeAddress, d.changeAddressToBox, d.issueCard, d.issueCardDeclined, d.issueCardToBox,
		d.issueCardAgain, d.issueCardOverCrash,
		d.familyCards, d.familyCardsLate, d.familyCardsRefused, d.verifyByHand, d.reviewCustomer, d.deleteUserData,
		d.upgrade,
	}
	for _, story := range stories {
		if err := story(ctx); err != nil {
			return err
		}
	}
	if err := d.audit(ctx); err != nil {
		return err
	}
	if len(d.failed) > 0 {
		for _, failure := range d.failed {
			d.out.line(red, "  ✗ "+failure)
		}
		return errDisagree
	}
	if d.once {
		return nil
	}
	d.invite()
	<-ctx.Done()
	if died := new(company.DiedError); errors.As(context.Cause(ctx), &died) {
		return died
	}
	d.out.para("Stopping.")
	return nil
}

// tailLines is how many lines of a log are shown after an error.
const tailLines = 25

// explain prints an error, and the end of the log of the process that it is about.
func (d *demo) explain(err error) {
	_, _ = fmt.Fprintf(d.stderr, "demo: %v\n", err)
	if d.company == nil || errors.Is(err, errDisagree) {
		return
	}
	concerned := d.company.Process(company.Orchestrator)
	if died := new(company.DiedError); errors.As(err, &died) {
		concerned = died.Process
	}
	if concerned == nil || concerned.Starts() == 0 {
		return
	}
	_, _ = fmt.Fprintf(d.stderr, "\nThe end of the log of %s (%s):\n%s\n", concerned.Name, concerned.Log,
		concerned.Tail(tailLines))
}

// workspace returns the directory for this run, and a function that removes it.
func workspace(dir string) (path string, remove func() error, err error) {
	if dir == "" {
		if path, err = os.MkdirTemp("", "treaty-demo-"); err != nil {
			return "", nil, fmt.Errorf("creating a directory for the databases: %w; choose one with --dir", err)
		}
		return path, func() error { return os.RemoveAll(path) }, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", nil, fmt.Errorf("--dir: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", nil, fmt.Errorf("--dir: %w", err)
	}
	if len(entries) > 0 {
		return "", nil, fmt.Errorf("--dir %s isn't empty: choose an empty or new directory", dir)
	}
	return dir, func() error { return nil }, nil
}

// lockedWriter lets several processes' logs share an output, one write at a time.
type lockedWriter struct {
	mu  sync.Mutex
	out io.Writer
}

// Write passes on one write.
func (w *lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.Write(p)
}
