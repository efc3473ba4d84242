package company

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// roleVariable makes the test binary act as a process.
const roleVariable = "TREATY_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "sleeper":
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		<-ctx.Done()
		stop()
		os.Exit(0)
	case "failer":
		fmt.Println("no database")
		os.Exit(3)
	}
	os.Exit(m.Run())
}

func play(t *testing.T, role string) (*Process, <-chan error) {
	t.Helper()
	died := make(chan error, 1)
	p := &Process{
		Name: role, Log: filepath.Join(t.TempDir(), role+".log"), args: []string{os.Args[0]},
		env: []string{roleVariable + "=" + role}, died: died,
	}
	t.Cleanup(func() {
		if err := p.Kill(); err != nil {
			t.Error(err)
		}
	})
	return p, died
}

func TestProcessIsKilledAndStartedAgain(t *testing.T) {
	p, died := play(t, "sleeper")
	var pids []int
	for range 2 {
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		pids = append(pids, p.PID())
		if err := p.Start(); err == nil {
			t.Error("it was started while it ran")
		}
		if err := p.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	if pids[0] == pids[1] || p.Starts() != 2 {
		t.Errorf("processes %v after %d starts, want two", pids, p.Starts())
	}
	select {
	case err := <-died:
		t.Errorf("a death on purpose was reported: %v", err)
	default:
	}
}

func TestProcessThatEndsByItselfIsTold(t *testing.T) {
	p, died := play(t, "failer")
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	err := <-died
	dead := new(DiedError)
	if !errors.As(err, &dead) || dead.Process != p || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("got %v, want that failer ended with exit status 3", err)
	}
	if tail := p.Tail(5); tail != "no database" {
		t.Errorf("its log ends %q", tail)
	}
}

func TestOpenReturnsACompanyToCloseWithItsError(t *testing.T) {
	acme, err := Open(cancelled(), Params{Dir: t.TempDir()})
	if acme == nil || err == nil {
		t.Fatalf("opened %v with %v, want a company to close and an error", acme, err)
	}
	if err := acme.Close(); err != nil {
		t.Error(err)
	}
}

func cancelled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func TestStopTakesNoLongerThanTheProcess(t *testing.T) {
	p, _ := play(t, "sleeper")
	if err := p.Stop(); err != nil {
		t.Errorf("stopping what never ran: %v", err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := p.Stop(); err != nil || time.Since(began) > stopTime/2 {
		t.Errorf("stopped after %s: %v", time.Since(began), err)
	}
}

func TestNotificationWithoutNode(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	got, err := findNotification(t.Context(), "bin")
	if err != nil || got.about != "its twin in Go, because node isn't installed" ||
		got.command[0] != filepath.Join("bin", "go"+executableSuffix) {
		t.Errorf("got %+v, %v; want the twin in Go", got, err)
	}
}

func TestFreeAddresses(t *testing.T) {
	addresses, err := freeAddresses(20)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, a := range addresses {
		if seen[a] {
			t.Errorf("%s twice", a)
		}
		seen[a] = true
	}
	if len(seen) != 20 {
		t.Errorf("%d addresses, want 20", len(seen))
	}
}
