package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// These variables make the test's program another one: the benchmark, or one that runs the benchmark as go run does.
const (
	benchVariable   = "TREATY_BENCH_TEST_BENCH"
	starterVariable = "TREATY_BENCH_TEST_STARTER"
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(childVariable) != "" || os.Getenv(benchVariable) != "":
		main()
	case os.Getenv(starterVariable) != "":
		bench := exec.CommandContext(context.Background(), os.Getenv(starterVariable), os.Args[1:]...)
		bench.Env, bench.Stderr = append(os.Environ(), benchVariable+"=1"), os.Stderr
		if err := bench.Run(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	default:
		m.Run()
	}
}

// The measurements of the tests last until they are ended.
var (
	endless = []string{
		"--no-inbox", "--heap-floor=false", "--in-flight", "1", "--rounds", "1000", "--round", "1s", "--warm-up", "0s",
	}
	endlessTracing = append([]string{"--tracing"}, endless...)
	overloaded     = []string{"--overload", "1", "--capacity", "0.001"}
)

// TestNoProcessStays ends benchmarks in many ways. None of their processes may stay.
func TestNoProcessStays(t *testing.T) {
	scenarios := []struct {
		name   string
		args   []string
		begun  string // what it says when it has begun
		signal func(t *testing.T, bench *os.Process)
		want   string // what it says in the end
	}{
		{"killed", endless, "round 1 of 1000", signals(os.Kill), ""},
		{"interrupted twice", endless, "round 1 of 1000", signals(os.Interrupt, os.Interrupt), ""},
		{"terminated", endless, "round 1 of 1000", signals(syscall.SIGTERM), "bench: "},
		{"terminated while it traces", endlessTracing, "round 1 of 1000", signals(syscall.SIGTERM), "bench: "},
		{"killed participant", overloaded, "sagas are due", killChild("participant"),
			"bench participant has ended by itself"},
		{"killed orchestrator", overloaded, "sagas are due", killChild("treaty"), "bench treaty has ended by itself"},
	}
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			bench := exec.CommandContext(t.Context(), self, s.args...)
			bench.Env = append(os.Environ(), benchVariable+"=1")
			said := started(t, bench, s.begun)
			s.signal(t, bench.Process)
			if text := untilAllEnd(t, said); !strings.Contains(text, s.want) {
				t.Errorf("it says %q, want %q in it", text, s.want)
			}
		})
	}
}

// TestNoProcessStaysAfterStarter kills go run and a comparison, which can't stop the benchmark any more.
func TestNoProcessStaysAfterStarter(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []struct {
		program string
		env     []string
	}{{"go", nil}, {"comparison", []string{comparedVariable + "=1"}}} {
		t.Run(s.program, func(t *testing.T) {
			t.Parallel()
			starter := filepath.Join(t.TempDir(), s.program)
			if err := os.Symlink(self, starter); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), starter, endless...)
			cmd.Env = append(append(os.Environ(), starterVariable+"="+self), s.env...)
			said := started(t, cmd, "round 1 of 1000")
			signals(syscall.SIGTERM)(t, cmd.Process)
			untilAllEnd(t, said)
		})
	}
}

// started starts a benchmark, waits until it has said that it has begun, and returns what it says from then on. All its
// processes can say something, so it is at its end when all have ended.
func started(t *testing.T, bench *exec.Cmd, begun string) *bufio.Reader {
	t.Helper()
	said, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = said.Close() })
	if err := said.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	bench.Stderr = write
	err = bench.Start()
	_ = write.Close() // the benchmark has its own
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bench.Wait() }) // how it ends is up to the test
	lines := bufio.NewReader(said)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("it says %q, %v", line, err)
		}
		if strings.Contains(line, begun) {
			return lines
		}
	}
}

func untilAllEnd(t *testing.T, said io.Reader) string {
	t.Helper()
	text, err := io.ReadAll(said)
	if err != nil {
		t.Errorf("a process stays: %v", err)
	}
	return string(text)
}

// signals sends signals to the benchmark, one after the other.
func signals(all ...os.Signal) func(*testing.T, *os.Process) {
	return func(t *testing.T, bench *os.Process) {
		t.Helper()
		for _, signal := range all {
			if err := bench.Signal(signal); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// killChild kills one of the benchmark's children.
func killChild(name string) func(*testing.T, *os.Process) {
	return func(t *testing.T, bench *os.Process) {
		t.Helper()
		files, err := filepath.Glob("/proc/[0-9]*/stat")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			var pid, parent int
			var state string
			stat, _ := os.ReadFile(file) // another process may have ended meanwhile
			_, after, _ := strings.Cut(string(stat), ") ")
			if _, err := fmt.Sscan(after, &state, &parent); err != nil || parent != bench.Pid {
				continue
			}
			args, err := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
			if err != nil || !strings.Contains(string(args), "\x00"+name+"\x00") {
				continue
			}
			if _, err := fmt.Sscan(string(stat), &pid); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			return
		}
		t.Errorf("the benchmark has no child %q", name)
	}
}

// TestExitsAfterGrace lets a process hang after it was told to end.
func TestExitsAfterGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		exited := make(chan int, 1)
		exitAfter(ctx, grace, func(code int) { exited <- code })
		cancel()
		told := time.Now()
		if code := <-exited; code != 1 {
			t.Errorf("it exits with code %d, want 1", code)
		}
		if after := time.Since(told); after != grace {
			t.Errorf("it exits after %v, want %v", after, grace)
		}
	})
}
