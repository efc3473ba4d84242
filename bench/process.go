package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
)

// freePort is the address to listen on at a free port of loopback.
const freePort = "127.0.0.1:0"

// serve serves on an address, says which, and stops when ctx ends.
func serve(ctx context.Context, address string, out io.Writer, server *grpc.Server) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listening on %s: %w", address, err)
	}
	fmt.Fprintln(out, ready+listener.Addr().String())
	context.AfterFunc(ctx, server.Stop)
	if err := server.Serve(listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}

// stopLimit is how long a child may take to stop. Then it is killed.
const stopLimit = 15 * time.Second

// children are the child processes of a measurement. When one of them ends and nobody has stopped it, the measurement
// is over: it would wait forever for sagas that can't end.
type children struct {
	ctx    context.Context // of the measurement
	cancel context.CancelCauseFunc
	all    []*process
}

func newChildren(ctx context.Context) *children {
	ctx, cancel := context.WithCancelCause(ctx)
	return &children{ctx: ctx, cancel: cancel}
}

// end stops the children that run and waits for them, so that none outlives the measurement.
func (c *children) end() {
	c.cancel(nil)
	for _, p := range c.all {
		<-p.ended // the end of the context stops it
	}
}

// why adds to an error of the measurement the end of the child that has caused it, if one has.
func (c *children) why(err error) error {
	if cause := context.Cause(c.ctx); err != nil && cause != nil && !errors.Is(cause, context.Canceled) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// process is a child process of the benchmark.
type process struct {
	name    string
	cmd     *exec.Cmd
	stdin   io.Writer
	address string

	served  chan string   // receives the address
	usages  chan usage    // receives each answer
	stopped chan struct{} // closed when it may end
	ended   chan struct{} // closed when it has ended
	err     error         // of its end, once it has ended
}

// command makes a command that runs this program again with other arguments. What runs ends when ctx ends.
func command(ctx context.Context, env []string, args ...string) (*exec.Cmd, io.WriteCloser, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, fmt.Errorf("finding the benchmark's own program: %w", err)
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Stderr, cmd.Env = os.Stderr, append(append(os.Environ(), env...), childVariable+"=1")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopLimit
	stdin, err := cmd.StdinPipe() // see asChild
	if err != nil {
		return nil, nil, fmt.Errorf("starting bench %s: %w", args[0], err)
	}
	return cmd, stdin, nil
}

// start runs this program again with other arguments and waits until it serves.
func (c *children) start(env []string, args ...string) (*process, error) {
	cmd, stdin, err := command(c.ctx, env, args...)
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("starting bench %s: %w", args[0], err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting bench %s: %w", args[0], err)
	}
	p := &process{
		name: args[0], cmd: cmd, stdin: stdin, served: make(chan string, 1), usages: make(chan usage, 1),
		stopped: make(chan struct{}), ended: make(chan struct{}),
	}
	c.all = append(c.all, p)
	go func() {
		p.read(out)
		p.err = cmd.Wait()
		close(p.ended)
		select {
		case <-p.stopped:
		default:
			c.cancel(fmt.Errorf("bench %s has ended by itself", p.name))
		}
	}()
	select {
	case p.address = <-p.served:
		return p, nil
	case <-p.ended:
		return nil, errors.Join(fmt.Errorf("bench %s ended before it served", p.name), p.err)
	}
}

// read reads what the child says until it has nothing more to say.
func (p *process) read(out io.Reader) {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if address, found := strings.CutPrefix(lines.Text(), ready); found {
			p.served <- address
		}
		if text, found := strings.CutPrefix(lines.Text(), used); found {
			var answer usage
			_ = json.Unmarshal([]byte(text), &answer) // the child has just marshaled it
			p.usages <- answer
		}
	}
}

// stop ends the child and waits for it.
func (p *process) stop() error {
	close(p.stopped)
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stopping bench %s: %w", p.name, err)
	}
	kill := time.AfterFunc(stopLimit, func() { _ = p.cmd.Process.Kill() }) // it may have ended meanwhile
	defer kill.Stop()
	<-p.ended
	var exit *exec.ExitError
	if p.err != nil && !errors.As(p.err, &exit) && !errors.Is(p.err, context.Canceled) {
		return fmt.Errorf("stopping bench %s: %w", p.name, p.err)
	}
	return nil
}

// usage asks the child what it has used so far.
func (p *process) usage(ctx context.Context) (usage, error) {
	if _, err := io.WriteString(p.stdin, "\n"); err != nil {
		return usage{}, fmt.Errorf("asking bench %s what it has used: %w", p.name, err)
	}
	select {
	case answer := <-p.usages:
		return answer, nil
	case <-p.ended:
		return usage{}, fmt.Errorf("asking bench %s what it has used: it has ended", p.name)
	case <-ctx.Done():
		return usage{}, fmt.Errorf("asking bench %s what it has used: %w", p.name, ctx.Err())
	}
}

// output runs this program again with other arguments until it ends, and returns what it has printed.
func (c *children) output(args ...string) ([]byte, error) {
	cmd, _, err := command(c.ctx, nil, args...)
	if err != nil {
		return nil, err
	}
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("running bench %s: %w", args[0], err)
	}
	return out, nil
}
