package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

const (
	// childVariable is set in the environment of a child.
	childVariable = "TREATY_BENCH_CHILD"

	// comparedVariable is set in the environment of a benchmark that a comparison runs.
	comparedVariable = "TREATY_BENCH_COMPARED"

	// ready begins the line with which a child reports its address.
	ready = "serving "

	// used begins the line with which a child reports what it has used, as JSON.
	used = "used "

	// grace is how long a child may go on after it was told to end. It is shorter than stopLimit, so that children end
	// by themselves, also without a parent.
	grace = 10 * time.Second
)

// asChild returns a context that also ends when the parent process has ended, however it did: a child's standard input
// is a pipe that the kernel closes then. A parent that was killed can't stop its children. For each line that the
// parent writes to the pipe, the child says what it has used so far.
func asChild(ctx context.Context, in io.Reader, out io.Writer) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		for lines := bufio.NewScanner(in); lines.Scan(); {
			now, err := ownUsage()
			if err != nil {
				fmt.Fprintln(os.Stderr, "bench:", err)
				return
			}
			text, _ := json.Marshal(now) // numbers only
			fmt.Fprintf(out, used+"%s\n", text)
		}
	}()
	return ctx
}

// exitAfter exits a while after ctx has ended. What hangs then would stay forever, and what takes long has nobody left
// who waits for it: spans that are exported again and again to a collector that has ended with the benchmark.
func exitAfter(ctx context.Context, grace time.Duration, exit func(code int)) {
	context.AfterFunc(ctx, func() {
		<-time.After(grace)
		fmt.Fprintf(os.Stderr, "bench: not stopped within %v, so exiting\n", grace)
		exit(1)
	})
}

// untilStarterEnds returns a context that also ends when go run or a comparison, which has started the benchmark, has
// ended. They wait for what they run, unless they are killed, and go run doesn't pass SIGTERM on. Nothing happens if
// something else has started the benchmark, which may leave it in the background on purpose.
func untilStarterEnds(ctx context.Context) context.Context {
	parent := os.Getppid()
	name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", parent)) // without Linux, go run isn't recognized
	if strings.TrimSpace(string(name)) != "go" && os.Getenv(comparedVariable) == "" {
		return ctx
	}
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		for os.Getppid() == parent {
			select {
			case <-time.After(200 * time.Millisecond):
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx
}
