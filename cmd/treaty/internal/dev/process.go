package dev

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

const (
	// stopTimeout is how long a process may take to end after SIGTERM.
	stopTimeout = 5 * time.Second

	// soon is how early an end counts as one at the start.
	soon = 2 * time.Second

	// tries is how often in a row a process may end at its start before it isn't started again.
	tries = 3

	// backoff is the wait before the first start after an end. It doubles with each end at the start.
	backoff = 500 * time.Millisecond
)

// order is what a process is told to do. done is closed when it is done.
type order struct {
	what action
	why  string
	done chan struct{}
}

// action is the kind of an order.
type action int

const (
	restart action = iota
	stop
)

// process runs one process of the file. Its goroutine is run.
type process struct {
	Process

	output *Output
	orders chan order
	build  *sync.Mutex // one build at a time, so that their output isn't mixed
	again  string      // how a person starts it again
}

// child is one run of a command.
type child struct {
	cmd   *exec.Cmd
	lines *lines
	since time.Time
	ended chan struct{} // closed after the end
}

// run starts the process, obeys orders, and stops it when ctx ends.
func (p *process) run(ctx context.Context) {
	var (
		now   *child
		early int
		again <-chan time.Time
	)
	if p.compile(ctx) {
		now = p.start(ctx)
	}
	for {
		var ended chan struct{}
		if now != nil {
			ended = now.ended
		}
		select {
		case <-ctx.Done():
			p.stop(now)
			return
		case o := <-p.orders:
			switch {
			case o.what == stop:
				p.stop(now)
				now, again = nil, nil
			case p.compile(ctx):
				p.output.Say("restarting %s: %s", p.Name, o.why)
				p.stop(now)
				early, again = 0, nil
				now = p.start(ctx)
			}
			close(o.done)
		case <-ended:
			if early++; time.Since(now.since) > soon {
				early = 1
			}
			again = p.ended(ctx, now, early)
			now = nil
		case <-again:
			again = nil
			now = p.start(ctx)
		}
	}
}

// ended says that the process ended by itself. It returns when to start it again, or nil for not at all.
func (p *process) ended(ctx context.Context, was *child, early int) <-chan time.Time {
	how := was.cmd.ProcessState.String()
	if time.Since(was.since) <= soon {
		if place := takenPlace(ctx, was.lines.last()); place != "" {
			p.taken(place)
			return nil
		}
	}
	if early < tries {
		wait := backoff << (early - 1)
		p.output.Say("%s ended by itself (%s); starting it again in %s", p.Name, how, wait)
		return time.After(wait)
	}
	last := was.lines.last()
	what := "Its last lines:"
	if len(last) == 0 {
		what = "It has printed nothing."
	}
	p.output.Say("%s ended at its start %d times in a row (%s). %s", p.Name, tries, how, what)
	for _, line := range last {
		p.output.Say("    %s", line)
	}
	p.output.Say("Mend it: a change of its files starts it again. Or %s.", p.again)
	return nil
}

// taken says that the process can't start, since another one listens on its port.
func (p *process) taken(place string) {
	p.output.Say("%s can't start: %s listens on %s. End that one, then %s.", p.Name,
		holder(procfs, portOf(place)), place, p.again)
}

// compile runs the build command and reports whether it succeeded. It shows what the command writes.
func (p *process) compile(ctx context.Context) bool {
	if len(p.Build) == 0 {
		return true
	}
	p.build.Lock()
	defer p.build.Unlock()
	if ctx.Err() != nil {
		return false
	}
	c, err := p.launch(p.Build)
	if err != nil {
		p.output.Say("%s: can't run its build: %v", p.Name, err)
		return false
	}
	done := p.output.progress("building " + p.Name)
	select {
	case <-c.ended:
	case <-ctx.Done():
		kill(c.cmd)
		<-c.ended
	}
	done()
	switch {
	case ctx.Err() != nil:
		return false
	case !c.cmd.ProcessState.Success():
		p.output.Say("the build of %s failed (%s); if it runs already, it goes on, and a change of its files builds "+
			"it again", p.Name, c.cmd.ProcessState)
		return false
	}
	return true
}

// start starts the process and returns it, or nil if it can't be started, which it says.
func (p *process) start(ctx context.Context) *child {
	if p.Ready != "" {
		if isTaken(ctx, p.Ready) {
			p.taken(p.Ready)
			return nil
		}
	}
	c, err := p.launch(p.Command)
	if err != nil {
		p.output.Say("%s can't start: %v. Correct its command, then start treaty dev again.", p.Name, err)
		return nil
	}
	if p.Ready == "" {
		p.output.Say("%s started", p.Name)
		return c
	}
	go p.waitReady(ctx, c)
	return c
}

// waitReady says when the process accepts connections.
func (p *process) waitReady(ctx context.Context, c *child) {
	done := p.output.progress("waiting for " + p.Name + " to listen on " + p.Ready)
	defer done()
	dialer := net.Dialer{Timeout: time.Second}
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-c.ended:
			return
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if conn, err := dialer.DialContext(ctx, "tcp", p.Ready); err == nil {
			_ = conn.Close()
			p.output.Say("%s is ready on %s", p.Name, p.Ready)
			return
		}
	}
}

// launch starts a command. Its output goes to lines.
func (p *process) launch(command []string) (*child, error) {
	// It is ended by its group.
	cmd := exec.CommandContext(context.Background(), command[0], command[1:]...)
	if strings.ContainsRune(command[0], '/') {
		cmd.Path, cmd.Err = absolute(p.Dir, command[0]), nil
	}
	cmd.Dir = p.Dir
	cmd.Env = os.Environ()
	for key, value := range p.Env {
		cmd.Env = append(cmd.Env, key+"="+value)
	}
	c := &child{cmd: cmd, since: time.Now(), ended: make(chan struct{})}
	c.lines = &lines{output: p.output, name: p.Name}
	cmd.Stdout, cmd.Stderr = c.lines, c.lines
	cmd.WaitDelay = time.Second // what the process started may keep its output open
	ownGroup(cmd)
	if info, err := os.Stat(p.Dir); p.Dir != "" && (err != nil || !info.IsDir()) {
		return nil, fmt.Errorf("its dir %s is no folder", p.Dir) // else it is said of the program
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = cmd.Wait()
		kill(cmd) // what the process has left behind
		c.lines.close()
		close(c.ended)
	}()
	return c, nil
}

// stop ends a run and waits until it has ended.
func (p *process) stop(c *child) {
	if c == nil {
		return
	}
	done := p.output.progress("stopping " + p.Name)
	defer done()
	terminate(c.cmd)
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-c.ended:
	case <-timer.C:
		p.output.Say("%s didn't end within %s of SIGTERM: killing it", p.Name, stopTimeout)
		kill(c.cmd)
		<-c.ended
	}
}
