package dev

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
)

// Params say how to run the processes of a Config.
type Params struct {
	Config *Config

	// Stdin has one key a line. Its end changes nothing.
	Stdin io.Reader

	// Stdout gets all output.
	Stdout io.Writer

	// Color makes the names colored.
	Color bool

	// Beside runs beside the processes, and ends when its context does. It may be nil.
	Beside func(context.Context, *Output)
}

// keys is said at the start.
const keys = "Type r to restart all, r NAME to restart one, w to wipe all stores, q to quit; then Enter."

// Run runs the processes until ctx ends or q is typed, and then stops them all. The error says what can't be started
// because of the file or the machine.
func Run(ctx context.Context, params Params) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var palette []string
	if params.Color {
		palette = colors
	}
	r := &runner{output: newOutput(params.Stdout, params.Config.Processes, palette)}
	changes, err := newWatcher(params.Config.Processes)
	if err != nil {
		return err
	}
	r.output.Say(keys)
	var running sync.WaitGroup
	build := new(sync.Mutex)
	for _, p := range params.Config.Processes {
		started := &process{Process: p, output: r.output, orders: make(chan order), build: build}
		r.processes = append(r.processes, started)
		running.Go(func() { started.run(ctx) })
	}
	running.Go(func() {
		changes.run(ctx, func(name, file string) {
			running.Go(func() { r.restart(ctx, name, file+" changed") })
		})
	})
	if params.Beside != nil {
		running.Go(func() { params.Beside(ctx, r.output) })
	}
	typed := make(chan string)
	go func() { // It can't be stopped while it reads.
		scanner := bufio.NewScanner(params.Stdin)
		for scanner.Scan() {
			select {
			case typed <- strings.TrimSpace(scanner.Text()):
			case <-ctx.Done():
				return
			}
		}
	}()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case line := <-typed:
			if line == "q" {
				cancel()
			} else {
				r.key(ctx, line)
			}
		}
	}
	r.output.Say("stopping all")
	running.Wait()
	r.output.Say("all processes have ended")
	return nil
}

// runner are all processes.
type runner struct {
	output    *Output
	processes []*process
}

// key does what a line says.
func (r *runner) key(ctx context.Context, line string) {
	what, name, _ := strings.Cut(line, " ")
	switch {
	case what == "r":
		r.restart(ctx, strings.TrimSpace(name), "as typed")
	case line == "w":
		r.wipe(ctx)
	case line != "":
		r.output.Say("unknown: %q. %s", line, keys)
	}
}

// restart restarts a process, or all for an empty name.
func (r *runner) restart(ctx context.Context, name, why string) {
	if !r.tell(ctx, restart, name, why) {
		var names []string
		for _, p := range r.processes {
			names = append(names, p.Name)
		}
		r.output.Say("no process is named %q; there are %s", name, strings.Join(names, ", "))
	}
}

// tell gives an order to the processes of a name, or to all for an empty name, and waits until it is done. It reports
// whether there are any.
func (r *runner) tell(ctx context.Context, what action, name, why string) bool {
	var told sync.WaitGroup
	found := false
	for _, p := range r.processes {
		if name != "" && p.Name != name {
			continue
		}
		found = true
		told.Go(func() {
			o := order{what: what, why: why, done: make(chan struct{})}
			select {
			case p.orders <- o:
				<-o.done
			case <-ctx.Done():
			}
		})
	}
	told.Wait()
	return found
}

// wipe stops all processes, deletes their stores, and starts them again.
func (r *runner) wipe(ctx context.Context) {
	r.output.Say("wiping all stores")
	r.tell(ctx, stop, "", "")
	if ctx.Err() != nil {
		return
	}
	deleted := 0
	for _, p := range r.processes {
		for _, store := range p.Stores {
			for _, suffix := range []string{"", "-wal", "-shm", "-lock"} {
				switch err := os.Remove(store + suffix); {
				case err == nil:
					deleted++
				case !errors.Is(err, fs.ErrNotExist):
					r.output.Say("%v", fmt.Errorf("wiping the stores of %s: %w", p.Name, err))
				}
			}
		}
	}
	r.output.Say("deleted %d files", deleted)
	r.tell(ctx, restart, "", "its stores were wiped")
}
