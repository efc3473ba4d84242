package main

import (
	"bufio"
	"context"
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
	if err := server.Serve(listener); err != nil {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}

// childVariable is set in the environment of a child that start has started.
const childVariable = "TREATY_BENCH_CHILD"

// untilParentEnds returns a context that also ends when the parent process has ended, however it did: a child's
// standard input is a pipe to which its parent writes nothing, and which the kernel closes. A parent that was killed,
// or that ends on an error, can't stop its children.
func untilParentEnds(ctx context.Context, in io.Reader) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, in)
		cancel()
	}()
	return ctx
}

// ready begins the line with which a child reports its address.
const ready = "serving "

// process is a child process of the benchmark.
type process struct {
	cmd     *exec.Cmd
	address string
}

// start runs this program again with other arguments and waits until it serves.
func start(ctx context.Context, env []string, args ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding the benchmark's own program: %w", err)
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Stderr, cmd.Env = os.Stderr, append(append(os.Environ(), env...), childVariable+"=1")
	if _, err := cmd.StdinPipe(); err != nil { // see untilParentEnds
		return nil, fmt.Errorf("starting bench %s: %w", args[0], err)
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("starting bench %s: %w", args[0], err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting bench %s: %w", args[0], err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if address, found := strings.CutPrefix(lines.Text(), ready); found {
			go io.Copy(io.Discard, out) //nolint:errcheck // only so that the child never blocks
			return &process{cmd: cmd, address: address}, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("bench %s ended before it served", args[0]), cmd.Wait())
}

// stop ends the child and waits for it.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stopping bench %s: %w", p.cmd.Args[1], err)
	}
	var exit *exec.ExitError
	if err := p.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("stopping bench %s: %w", p.cmd.Args[1], err)
	}
	return nil
}

// cpu is the processor time that the child has used so far.
func (p *process) cpu() (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("reading the processor time of bench %s (it takes Linux): %w", p.cmd.Args[1], err)
	}
	var user, system int64
	_, after, _ := strings.Cut(string(data), ") ")
	fields := strings.Fields(after)
	if len(fields) < 13 {
		return 0, fmt.Errorf("reading the processor time of bench %s: unexpected %q", p.cmd.Args[1], data)
	}
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		return 0, fmt.Errorf("reading the processor time of bench %s: %w", p.cmd.Args[1], err)
	}
	const ticks = 100 // per second, on every Linux
	return time.Duration(user+system) * time.Second / ticks, nil
}

// ownCPU is the processor time that this process has used so far.
func ownCPU() (time.Duration, error) {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0, fmt.Errorf("reading the processor time: %w", err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), nil
}
