package proof

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// devRun is a running treaty dev. It is the writer of its output.
type devRun struct {
	t *testing.T

	mu      sync.Mutex
	text    string
	read    int
	changed chan struct{}
}

func (d *devRun) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.text += string(p)
	select {
	case d.changed <- struct{}{}:
	default:
	}
	return len(p), nil
}

// expect waits until the output matches, after what was expected before.
func (d *devRun) expect(pattern string) {
	d.t.Helper()
	want, timeout := regexp.MustCompile(pattern), time.After(2*time.Minute)
	for {
		d.mu.Lock()
		found := want.FindStringIndex(d.text[d.read:])
		if found != nil {
			d.read += found[1]
		}
		text := d.text
		d.mu.Unlock()
		if found != nil {
			return
		}
		select {
		case <-d.changed:
		case <-timeout:
			d.t.Fatalf("the output has no %q:\n%s", pattern, text)
		}
	}
}

// TestDev runs the example company as a developer does: sagas run while a participant is killed and restarted, while a
// file changes, and after all stores were wiped. SIGTERM leaves no process behind.
func TestDev(t *testing.T) {
	if testing.Short() || runtime.GOOS != "linux" {
		t.Skip("it builds programs, and finds one of them in /proc")
	}
	u := newNewUser(t)
	checkout, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	file, address, ports := devFile(t, checkout, u.dir)
	d := &devRun{t: t, changed: make(chan struct{}, 1)}
	cmd := u.command("treaty", "dev", file)
	stdin, keys := io.Pipe()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, d, d
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	end := func() {
		if !ended {
			ended = true
			_ = cmd.Process.Signal(syscall.SIGTERM)
			_ = stdin.Close()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(end)
	d.expect(`orchestrator is ready on`)
	move := func() {
		t.Helper()
		u.fails(3, "treaty", "start", "acme.customer.v1.CustomerSagas/ChangeAddress", "--wait", "--address", address,
			"--data", `{"customer":"customers/x","address":{"lines":["a"],"city":"b","postalCode":"1","country":"DE"}}`)
		d.expect(`treaty +\|.*COMPENSATED`)
	}
	move()
	if _, err := keys.Write([]byte("r customer\n")); err != nil {
		t.Fatal(err)
	}
	d.expect(`(?s)restarting customer: as typed.*customer is ready on`)
	move()
	kill(t, filepath.Join(u.dir, "customer"))
	d.expect(`customer ended by itself \(signal: killed\); starting it again in`)
	move()
	if err := os.WriteFile(filepath.Join(u.dir, "watched"), []byte("changed"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.expect(`restarting customer: watched changed`)
	move()
	if _, err := keys.Write([]byte("w\n")); err != nil {
		t.Fatal(err)
	}
	d.expect(`deleted \d+ files`)
	d.expect(`orchestrator is ready on`)
	move()
	end()
	d.expect(`all processes have ended`)
	for _, port := range ports {
		listener, err := net.Listen("tcp", port)
		if err != nil {
			t.Errorf("a process is left behind: %v", err)
			continue
		}
		_ = listener.Close()
	}
}

// kill kills the process that runs a program.
func kill(t *testing.T, program string) {
	t.Helper()
	found, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range found {
		if target, err := os.Readlink(link); err == nil && target == program {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link)))
			if err != nil {
				t.Fatal(err)
			}
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("no process runs %s", program)
}

// devFile writes the example company's file with free ports, with its data in dir, and with a file in dir that the
// customer service watches.
func devFile(t *testing.T, checkout, dir string) (file, address string, ports []string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(checkout, "treaty.dev.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, port := range []string{"7080", "7101", "7102", "7103", "7104", "7105"} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = listener.Close() }()
		ports = append(ports, listener.Addr().String())
		data = bytes.ReplaceAll(data, []byte("127.0.0.1:"+port), []byte(listener.Addr().String()))
	}
	data = bytes.ReplaceAll(data, []byte("bin/dev/"), []byte(dir+"/"))
	text := strings.ReplaceAll(string(data), "    build:", "    dir: "+checkout+"\n    build:")
	text = strings.Replace(text, "  - name: customer\n", "  - name: customer\n    watch: ["+dir+"/watched]\n", 1)
	file = filepath.Join(dir, "treaty.dev.yaml")
	for name, content := range map[string]string{file: text, filepath.Join(dir, "watched"): ""} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return file, ports[0], ports
}
