package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// parentVariable makes the test's program a benchmark that starts a participant and waits.
const parentVariable = "TREATY_BENCH_TEST_PARENT"

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(childVariable) != "":
		main()
	case os.Getenv(parentVariable) != "":
		participant, err := start(context.Background(), nil, "participant")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(participant.address)
		select {}
	default:
		os.Exit(m.Run())
	}
}

// TestChildrenEndWithTheirParent kills a benchmark, which can't stop its participant any more.
func TestChildrenEndWithTheirParent(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.CommandContext(t.Context(), self)
	parent.Env = append(os.Environ(), parentVariable+"=1")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	// The participant inherits it, so it is at its end when both have ended.
	held, err := parent.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if said, err := io.ReadAll(held); err != nil || len(said) > 0 {
		t.Errorf("it says %q, %v", said, err)
	}
	_ = parent.Wait() // it was killed
	if conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimSpace(address)); err == nil {
		_ = conn.Close()
		t.Error("the participant still serves")
	}
}
