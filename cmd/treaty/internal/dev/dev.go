package dev

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
)

// Params say how to run the processes of a Config.
type Params struct {
	Config *Config

	// Stdin has one key a line. Its end changes nothing.
	Stdin io.Reader

	// Keys says that Stdin and Stdout are a terminal in raw mode: keys come without Enter, lines end with "\r\n", and
	// what takes long is said in one line that is rewritten.
	Keys bool

	// Columns is the width of that terminal.
	Columns int

	// Stdout gets all output.
	Stdout io.Writer

	// Color makes the names colored.
	Color bool

	// Beside runs beside the processes, and ends when its context does. It may be nil.
	Beside func(context.Context, *Output)
}

// help says what can be typed.
func (p *Params) help() string {
	if !p.Keys {
		return "Type r to restart all, r NAME to restart one, w to wipe all stores, q to quit; then Enter."
	}
	var each []string
	for i, p := range p.Config.Processes[:min(len(p.Config.Processes), keyed)] {
		each = append(each, fmt.Sprintf("%d to restart %s", i+1, p.Name))
	}
	return "Press r to restart all, " + strings.Join(each, ", ") + ", w to wipe all stores, q to quit."
}

// keyed is how many processes have a key of their own.
const keyed = 9

// Run runs the processes until ctx ends or q is typed, and then stops them all. The error says what can't be started
// because of the file or the machine.
func Run(ctx context.Context, params Params) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var palette []string
	if params.Color {
		palette = colors
	}
	r := &runner{output: newOutput(params.Stdout, params.Config.Processes, palette), help: params.help()}
	if params.Keys {
		r.output.rewrite(params.Columns)
	}
	changes, err := newWatcher(params.Config.Processes)
	if err != nil {
		return err
	}
	r.output.Say("%s", r.help)
	var running sync.WaitGroup
	build := new(sync.Mutex)
	for i, p := range params.Config.Processes {
		started := &process{Process: p, output: r.output, orders: make(chan order), build: build}
		switch {
		case !params.Keys:
			started.again = "type r " + p.Name
		case i < keyed:
			started.again = fmt.Sprintf("press %d", i+1)
		default:
			started.again = "press r"
		}
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
	typed := make(chan string, 16)
	go func() { // It can't be stopped while it reads.
		scanner := bufio.NewScanner(params.Stdin)
		if params.Keys {
			scanner.Split(bufio.ScanBytes)
		}
		for scanner.Scan() {
			text := scanner.Text()
			if params.Keys && (text == "q" || text == interrupt) {
				cancel() // also while another key is obeyed
			}
			if params.Keys && len(typed) == cap(typed) {
				continue // an impatient person's; the next one may be q
			}
			select {
			case typed <- text:
			case <-ctx.Done():
				return
			}
		}
	}()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case text := <-typed:
			switch line := strings.TrimSpace(text); {
			case params.Keys:
				r.press(ctx, text)
			case line == "q":
				cancel()
			default:
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
	help      string
	wiping    bool // w was pressed once
}

// interrupt is Ctrl-C in raw mode.
const interrupt = "\x03"

// press does what a key says. A wipe needs two.
func (r *runner) press(ctx context.Context, key string) {
	wiping := r.wiping
	r.wiping = false
	number, err := strconv.Atoi(key)
	switch {
	case key == "r":
		r.restart(ctx, "", "as typed")
	case err == nil && number > 0 && number <= len(r.processes):
		r.restart(ctx, r.processes[number-1].Name, "as typed")
	case key == "w" && wiping:
		r.wipe(ctx)
	case key == "w":
		r.wiping = true
		r.output.Say("Press w again to delete what all processes have stored. Any other key keeps it.")
	case key > " ":
		r.output.Say("unknown: %q. %s", key, r.help)
	}
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
		r.output.Say("unknown: %q. %s", line, r.help)
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
