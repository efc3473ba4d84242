//go:build unix

package dev

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestHolder reads a made-up /proc.
func TestHolder(t *testing.T) {
	proc := t.TempDir()
	const header = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	files := map[string]string{
		"net/tcp": header +
			"   0: 0100007F:1BBD 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0\n" +
			"   1: 0100007F:1BBE 0100007F:1BBD 01 00000000:00000000 00:00000000 00000000  1000        0 4712 1 0\n",
		"net/tcp6": header + "   0: " + strings.Repeat("0", 32) + ":1BC0 " + strings.Repeat("0", 32) +
			":0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4713 1 0\n",
		"12/comm": "postgres\n", "13/comm": "sleep\n", "14/comm": "node\n",
	}
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(proc, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(proc, name), text)
	}
	for pid, sockets := range map[string][]string{"12": {"/dev/null", "socket:[4711]"}, "13": {"socket:[4712]"},
		"14": {"socket:[4713]"}} {
		if err := os.Mkdir(filepath.Join(proc, pid, "fd"), 0o700); err != nil {
			t.Fatal(err)
		}
		for i, target := range sockets {
			if err := os.Symlink(target, filepath.Join(proc, pid, "fd", fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
		}
	}
	for port, want := range map[string]string{
		"7101": "postgres (process 12)",
		"7102": "another process", // a connection, nobody listens
		"7104": "node (process 14)",
		"7105": "another process",
		"x":    "another process",
	} {
		if got := holder(proc, port); got != want {
			t.Errorf("port %s is held by %q, want %q", port, got, want)
		}
	}
	if got := holder(filepath.Join(proc, "none"), "7101"); got != "another process" {
		t.Errorf("without /proc, the port is held by %q", got)
	}
}

func TestTakenPlace(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	taken := listener.Addr().String()
	for name, test := range map[string]struct{ line, want string }{
		"Go":         {"listen tcp TAKEN: bind: address already in use", taken},
		"Treaty":     {"orchestrator: listening on TAKEN: the port is in use: stop the program that uses it", taken},
		"Node.js":    {"Error: listen EADDRINUSE: address already in use TAKEN", taken},
		"log":        {`time=12:30:59 level=ERROR msg="listen tcp TAKEN: bind: address already in use"`, taken},
		"no place":   {"OSError: [Errno 98] Address already in use", ""},
		"free":       {"listen tcp 127.0.0.1:1: bind: address already in use", ""},
		"other":      {"listen tcp TAKEN: bind: permission denied", ""},
		"not a port": {"the address is in use since 12:30", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := takenPlace(t.Context(), []string{"starting", strings.ReplaceAll(test.line, "TAKEN", taken), "exit"})
			if got != test.want {
				t.Errorf("%q is taken, want %q", got, test.want)
			}
		})
	}
}

// TestTakenWithoutReady ends at its start since its port is taken, which the file doesn't name.
func TestTakenWithoutReady(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	taken := listener.Addr().String()
	s := open(t, sh("p", "echo listen tcp "+taken+": bind: address already in use; exit 1"))
	who := "another process"
	if runtime.GOOS == "linux" {
		who = holder(procfs, portOf(taken)) // this one
		if !strings.Contains(who, fmt.Sprintf("(process %d)", os.Getpid())) {
			t.Errorf("the port of this process is held by %s", who)
		}
	}
	s.expect("p can't start: " + who + " listens on " + taken + ". End that one, then type r p.")
	s.key("r p")
	s.expect("p can't start: " + who)
	s.key("q")
	s.expect("all processes have ended")
	if strings.Contains(s.output(), "starting it again in") {
		t.Errorf("it was started again, although its port is taken:\n%s", s.output())
	}
}
