//go:build unix

package dev

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// deadline bounds how long a test waits for a line.
const deadline = 20 * time.Second

// session is a run of dev. It is the writer of its output.
type session struct {
	t    *testing.T
	keys io.Writer
	quit context.CancelFunc
	done chan error

	mu      sync.Mutex
	text    string
	read    int           // what was expected already
	changed chan struct{} // has an element after a write
}

func (s *session) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text += string(p)
	select {
	case s.changed <- struct{}{}:
	default:
	}
	return len(p), nil
}

// expect waits until the output has a text after the last one that was expected, and returns the rest of its line.
func (s *session) expect(want string) string {
	s.t.Helper()
	timeout := time.After(deadline)
	for {
		s.mu.Lock()
		text, from := s.text, s.read
		if at := strings.Index(text[from:], want); at >= 0 {
			rest, _, whole := strings.Cut(text[from+at+len(want):], "\n")
			if whole {
				s.read = from + at + len(want)
				s.mu.Unlock()
				return rest
			}
		}
		s.mu.Unlock()
		select {
		case <-s.changed:
		case <-timeout:
			s.t.Fatalf("the output has no %q after byte %d:\n%s", want, from, text)
		}
	}
}

func (s *session) output() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text
}

func (s *session) key(line string) {
	s.t.Helper()
	if _, err := io.WriteString(s.keys, line+"\n"); err != nil {
		s.t.Fatal(err)
	}
}

// open runs processes until the end of the test, when none may be left.
func open(t *testing.T, processes ...Process) *session {
	t.Helper()
	return openWith(t, Params{}, processes...)
}

// openWith is open with other parameters.
func openWith(t *testing.T, params Params, processes ...Process) *session {
	t.Helper()
	dir := t.TempDir()
	for i := range processes {
		if processes[i].Dir == "" {
			processes[i].Dir = dir
		}
	}
	stdin, keys := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	s := &session{t: t, keys: keys, quit: cancel, done: make(chan error, 1), changed: make(chan struct{}, 1)}
	go func() {
		params.Config, params.Stdin, params.Stdout = &Config{Processes: processes}, stdin, s
		s.done <- Run(ctx, params)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-s.done; err != nil {
			t.Errorf("Run: %v", err)
		}
		_ = stdin.Close()
	})
	return s
}

// sh is a process that a shell runs.
func sh(name, script string) Process {
	return Process{Name: name, Command: Command{"sh", "-c", script}}
}

// pid is a process that says its process id and that of a child, and runs until it is killed.
func pid(name string) Process { return sh(name, "sleep 1000 & echo pid $$ child $!; wait") }

// alive reports whether a process runs. One that was killed may take a moment to end, and stays as a zombie if whoever
// inherited it doesn't wait for it.
func alive(t *testing.T, pid string) bool {
	t.Helper()
	number, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	return !errors.Is(syscall.Kill(number, 0), syscall.ESRCH) && !isZombie(pid)
}

func isZombie(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	return err == nil && strings.Contains(string(stat), ") Z ")
}

// gone waits until none of the processes runs.
func gone(t *testing.T, pids ...string) {
	t.Helper()
	timeout := time.After(deadline)
	for _, pid := range pids {
		for alive(t, pid) {
			select {
			case <-time.After(10 * time.Millisecond):
			case <-timeout:
				t.Fatalf("the process %s still runs", pid)
			}
		}
	}
}

// TestRestart restarts one process, then all, and leaves none.
func TestRestart(t *testing.T) {
	s := open(t, pid("one"))
	first := strings.Fields(s.expect("one    | pid "))
	s.key("r one")
	s.expect("restarting one: as typed")
	second := strings.Fields(s.expect("one    | pid "))
	gone(t, first[0], first[2])
	s.key("r two")
	s.expect(`no process is named "two"; there are one`)
	s.key("x")
	s.expect(`unknown: "x"`)
	s.key("q")
	s.expect("all processes have ended")
	gone(t, second[0], second[2])
}

// TestChange restarts what changed, even in a new folder, and nothing else.
func TestChange(t *testing.T) {
	src := t.TempDir()
	watching, other := pid("watching"), pid("other")
	watching.Watch = []string{src}
	s := open(t, watching, other)
	s.expect("watching | pid ")
	write(t, filepath.Join(src, "a.go"), "package a")
	s.expect("restarting watching: a.go changed")
	s.expect("watching | pid ")
	if err := os.Mkdir(filepath.Join(src, "new"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(src, "new", "b.go"), "package b")
	s.expect("restarting watching: b.go changed")
	s.expect("watching | pid ")
	if got := s.output(); strings.Contains(got, "restarting other") {
		t.Errorf("a process whose files didn't change was restarted:\n%s", got)
	}
}

// TestBuildFails keeps the old process while a build fails, and shows why.
func TestBuildFails(t *testing.T) {
	src := t.TempDir()
	p := pid("p")
	p.Watch = []string{src}
	p.Build = Command{"sh", "-c", "cat " + filepath.Join(src, "wrong") + " 2>/dev/null && exit 1 || exit 0"}
	s := open(t, p)
	first := strings.Fields(s.expect("| pid "))
	write(t, filepath.Join(src, "wrong"), "main.go:1: undefined: x\n")
	s.expect("main.go:1: undefined: x")
	s.expect("the build of p failed (exit status 1); if it runs already, it goes on")
	if !alive(t, first[0]) {
		t.Error("the old process doesn't run anymore")
	}
	if err := os.Remove(filepath.Join(src, "wrong")); err != nil {
		t.Fatal(err)
	}
	s.expect("restarting p: wrong changed")
	s.expect("| pid ")
}

// TestKilled starts a process again that was killed.
func TestKilled(t *testing.T) {
	s := open(t, pid("p"))
	first := strings.Fields(s.expect("| pid "))
	number, err := strconv.Atoi(first[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(number, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.expect("p ended by itself (signal: killed); starting it again in 500ms")
	s.expect("| pid ")
}

// TestEndsAtStart gives up after three ends at the start, and starts the process again when it is told to.
func TestEndsAtStart(t *testing.T) {
	s := open(t, sh("p", "echo no flag --foo; exit 3"))
	s.expect("p ended by itself (exit status 3); starting it again in 500ms")
	s.expect("p ended by itself (exit status 3); starting it again in 1s")
	s.expect("p ended at its start 3 times in a row (exit status 3). Its last lines:")
	s.expect("treaty |     no flag --foo")
	s.expect("a change of its files starts it again. Or type r p.")
	s.key("r")
	s.expect("restarting p: as typed")
	s.expect("starting it again in 500ms")
	s = open(t, sh("quiet", "exit 3"))
	s.expect("quiet ended at its start 3 times in a row (exit status 3). It has printed nothing.")
}

// TestWipe deletes the stores while nothing runs.
func TestWipe(t *testing.T) {
	dir := t.TempDir()
	p := sh("p", "ls; touch s.db s.db-wal keep; echo started; exec sleep 1000")
	p.Dir, p.Stores = dir, []string{filepath.Join(dir, "s.db")}
	s := open(t, p)
	s.expect("p      | started")
	s.key("w")
	s.expect("deleted 2 files")
	s.expect("restarting p: its stores were wiped")
	if got := s.expect("p      | "); got != "keep" {
		t.Errorf("at its start, the process finds %q, want only what isn't a store", got)
	}
}

// TestCannotStart says why a process can't start.
func TestCannotStart(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	busy := pid("busy")
	busy.Ready = listener.Addr().String()
	s := open(t, busy)
	s.expect("busy can't start: " + holder(procfs, portOf(busy.Ready)) + " listens on " + busy.Ready +
		". End that one, then type r busy.")
	s = open(t, Process{Name: "none", Command: Command{"no-such-program"}})
	s.expect(`none can't start: exec: "no-such-program": executable file not found in $PATH`)
	away := pid("away")
	away.Dir = filepath.Join(t.TempDir(), "away")
	s = open(t, away)
	s.expect("away can't start: its dir " + away.Dir + " is no folder")
}

// TestStubborn kills a process that ignores SIGTERM.
func TestStubborn(t *testing.T) {
	s := open(t, sh("p", "trap '' TERM; echo pid $$; while true; do sleep 0.1; done"))
	number := s.expect("| pid ")
	s.key("q")
	s.expect("stopping p: 1s")
	s.expect("p didn't end within 5s of SIGTERM: killing it")
	s.expect("all processes have ended")
	gone(t, number)
}

// TestLongLine cuts a line that is too long, and escapes what moves the cursor.
func TestLongLine(t *testing.T) {
	s := open(t, sh("p", `printf '%05000d\n' 1; printf 'a\033[2Jb\n'; exec sleep 1000`))
	if got := s.expect("p      | "); got != strings.Repeat("0", maxLine)+"…" {
		t.Errorf("a long line has %d bytes", len(got))
	}
	s.expect(`a\u001b[2Jb`)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
