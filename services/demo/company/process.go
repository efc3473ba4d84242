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

// stopTime is how long a process may take to stop.
const stopTime = 15 * time.Second

// Process is one program of the company. It keeps its address and its data when it is restarted. All methods may be
// called concurrently.
type Process struct {
	// Name is the program's name, for example "customer".
	Name string

	// Address is the address that it serves on, "127.0.0.1:port".
	Address string

	// Log is the file to which its output is appended.
	Log string

	args    []string
	env     []string
	verbose io.Writer // also receives its output; may be nil
	died    chan<- error

	mu     sync.Mutex
	life   *life
	starts int
}

// life is one run of a program.
type life struct {
	cmd    *exec.Cmd
	ended  chan struct{} // closed at the end
	wanted bool          // whether it was ended on purpose; guarded by the process's mutex
}

// DiedError is the error of a process that ended on its own.
type DiedError struct {
	// Process is the process.
	Process *Process

	// Cause is how it ended.
	Cause error
}

// Error returns which process died, and how.
func (e *DiedError) Error() string {
	return fmt.Sprintf("%s ended on its own: %v", e.Process.Name, e.Cause)
}

// Unwrap returns the cause.
func (e *DiedError) Unwrap() error { return e.Cause }

// errEnded is the cause of a process that ended with exit code 0.
var errEnded = errors.New("exit status 0")

// Start starts the program. It doesn't wait; see Company.Ready.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life != nil {
		select {
		case <-p.life.ended:
		default:
			return fmt.Errorf("starting %s: it is already running", p.Name)
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

// spawner runs functions on one thread that lives as long as this process. On Linux, a process that must end with its
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

// await waits until a run of the program ends, and reports the end if it wasn't on purpose.
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
	default: // An earlier death was reported already.
	}
}

// Kill ends the process as kill -9 does, and returns when it is gone.
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

// Stop asks the process to stop, and kills it if it doesn't stop in time.
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
		return errors.Join(fmt.Errorf("stopping %s: it didn't stop within %s and was killed", p.Name, stopTime),
			p.Kill())
	}
}

// doom marks the current life as ended on purpose. It returns nil if there is none.
func (p *Process) doom() *life {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life != nil {
		p.life.wanted = true
	}
	return p.life
}

// PID returns the id of the process, or 0 before the first start.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.life == nil {
		return 0
	}
	return p.life.cmd.Process.Pid
}

// Starts returns how often the program was started.
func (p *Process) Starts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.starts
}

// gone returns a channel that is closed when the current life has ended.
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

// waitError returns why waiting for the process ended.
func (p *Process) waitError(ctx context.Context) error {
	return fmt.Errorf("waiting for %s at %s: %w", p.Name, p.Address, context.Cause(ctx))
}
