package company

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"
)

// stopTime is how long a process may take to end when it is asked to.
const stopTime = 15 * time.Second

// Process is one program of the company. It keeps its address and its data over all its lives. All methods may be
// called concurrently.
type Process struct {
	// Name is the program's name, e.g. "customer".
	Name string

	// Address is where it serves, "127.0.0.1:port".
	Address string

	// Log is the file that its output is appended to.
	Log string

	args    []string
	env     []string
	verbose io.Writer // takes its output too; nil for nobody
	died    chan<- error

	mu     sync.Mutex
	life   *life
	starts int
}

// life is one run of a program.
type life struct {
	cmd    *exec.Cmd
	ended  chan struct{} // closed when it has ended
	wanted bool          // whether somebody ended it; guarded by the process's mutex
}

// DiedError says that a process ended by itself.
type DiedError struct {
	// Process is the one that did.
	Process *Process

	// Cause is how it ended.
	Cause error
}

// Error says who died and of what.
func (e *DiedError) Error() string {
	return fmt.Sprintf("%s ended by itself: %v", e.Process.Name, e.Cause)
}

// Unwrap returns the cause.
func (e *DiedError) Unwrap() error { return e.Cause }

// errEnded is the cause of a process that ended with exit code 0.
var errEnded = errors.New("exit status 0")

// Start starts the program. It returns at once; see Company.Ready.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life != nil {
		select {
		case <-p.life.ended:
		default:
			return fmt.Errorf("starting %s: it is running", p.Name)
		}
	}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("starting %s: %w", p.Name, err)
	}
	cmd := exec.Command(p.args[0], p.args[1:]...) //nolint:noctx // programs of this module, ended by their own signals
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Stdout, cmd.Stderr = io.Writer(log), io.Writer(log)
	if p.verbose != nil {
		both := io.MultiWriter(log, p.verbose)
		cmd.Stdout, cmd.Stderr = both, both
	}
	bindToParent(cmd)
	started := make(chan error, 1)
	spawner() <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return errors.Join(fmt.Errorf("starting %s: %w", p.Name, err), log.Close())
	}
	p.life = &life{cmd: cmd, ended: make(chan struct{})}
	p.starts++
	go p.await(p.life, log)
	return nil
}

// spawner runs functions on one thread that lives as long as this process: on Linux, a process that is to end with its
// parent ends with the thread that started it.
var spawner = sync.OnceValue(func() chan<- func() {
	calls := make(chan func())
	go func() {
		runtime.LockOSThread()
		for call := range calls {
			call()
		}
	}()
	return calls
})

// await tells when a life has ended.
func (p *Process) await(l *life, log io.Closer) {
	err := l.cmd.Wait()
	_ = log.Close()
	p.mu.Lock()
	wanted := l.wanted
	p.mu.Unlock()
	close(l.ended)
	if wanted {
		return
	}
	if err == nil {
		err = errEnded
	}
	select {
	case p.died <- &DiedError{Process: p, Cause: err}:
	default: // somebody died before, which is what matters
	}
}

// Kill ends the process as kill -9 does, and returns once it is gone.
func (p *Process) Kill() error {
	l := p.doom()
	if l == nil {
		return nil
	}
	if err := l.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("killing %s: %w", p.Name, err)
	}
	<-l.ended
	return nil
}

// Stop asks the process to end, and kills it when it doesn't in time.
func (p *Process) Stop() error {
	l := p.doom()
	if l == nil {
		return nil
	}
	if err := terminate(l.cmd.Process); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return errors.Join(fmt.Errorf("stopping %s: %w", p.Name, err), p.Kill())
	}
	timeout := time.NewTimer(stopTime)
	defer timeout.Stop()
	select {
	case <-l.ended:
		return nil
	case <-timeout.C:
		return errors.Join(fmt.Errorf("stopping %s: it didn't end within %s; killed", p.Name, stopTime), p.Kill())
	}
}

// doom notes that the present life is ended on purpose; nil when there is none.
func (p *Process) doom() *life {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life != nil {
		p.life.wanted = true
	}
	return p.life
}

// PID returns the id of the process, 0 before the first start.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life == nil {
		return 0
	}
	return p.life.cmd.Process.Pid
}

// Starts returns how often it was started.
func (p *Process) Starts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.starts
}

// gone is closed when the present life has ended.
func (p *Process) gone() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life == nil {
		return nil
	}
	return p.life.ended
}

// Tail returns the last lines of the log.
func (p *Process) Tail(lines int) string {
	data, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// waitError says why waiting for the process ended.
func (p *Process) waitError(ctx context.Context) error {
	return fmt.Errorf("waiting for %s at %s: %w", p.Name, p.Address, context.Cause(ctx))
}
