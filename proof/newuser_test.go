package proof

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// newUser is a person with an empty folder and a machine that has Go, make and the treaty program, and nothing else.
type newUser struct {
	t   *testing.T
	dir string
	env []string

	// served is what the last command in the background has printed until the orchestrator served.
	served string
}

// TestNewUser follows what treaty init and the README that it writes say: it generates, tests, runs, and places orders.
func TestNewUser(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds tools and programs")
	}
	began := time.Now()
	u := newNewUser(t)
	checkout, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	u.says(u.run("treaty", "init", "shop", "--replace", checkout), "Wrote ", "make run")
	u.dir = filepath.Join(u.dir, "shop")
	address := u.movePorts()
	u.says(u.run("make"), "ok  \texample.com/shop/orders", "ok  \texample.com/shop/stock")
	if again := u.run("make"); strings.Contains(again, "buf generate") {
		t.Errorf("the code is generated again:\n%s", again)
	}

	stop := u.background("make", "run")
	orders := u.ordersOfReadme()
	placed, declined := append(orders[0], "--address", address), append(orders[1], "--address", address)
	u.says(u.fails(0, placed...), "SUCCEEDED", `{"reservation":"reservations/1","charge":"charges/1"}`)
	u.says(u.fails(3, declined...), "COMPENSATED", "payment.v1.CardDeclined")
	u.says(u.run("treaty", "sagas", "list", "--address", address), "COMPENSATED", "SUCCEEDED", "customer=ada")
	stop()
	t.Logf("a new user needed %s", time.Since(began).Round(time.Second))
}

func newNewUser(t *testing.T) *newUser {
	t.Helper()
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", bin, "../cmd/treaty")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building treaty: %v\n%s", err, out)
	}
	goBinary, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	path := strings.Join([]string{bin, filepath.Dir(goBinary), "/usr/bin", "/bin"}, string(filepath.ListSeparator))
	env := []string{"PATH=" + path, "HOME=" + t.TempDir()}
	for _, name := range []string{"GOPROXY", "GONOSUMDB", "GOSUMDB", "GOFLAGS", "GOMODCACHE", "GOCACHE", "GOROOT"} {
		value, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		env = append(env, name+"="+strings.TrimSpace(string(value)))
	}
	return &newUser{t: t, dir: t.TempDir(), env: env}
}

func (u *newUser) command(args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(u.t.Context(), 5*time.Minute)
	u.t.Cleanup(cancel)
	program := args[0]
	for _, variable := range u.env { // the test's own PATH doesn't count
		if path, is := strings.CutPrefix(variable, "PATH="); is {
			for _, dir := range filepath.SplitList(path) {
				if _, err := os.Stat(filepath.Join(dir, program)); err == nil {
					program = filepath.Join(dir, program)
					break
				}
			}
		}
	}
	cmd := exec.CommandContext(ctx, program, args[1:]...)
	cmd.Dir, cmd.Env = u.dir, u.env
	return cmd
}

// run runs a command that succeeds, and returns what it prints.
func (u *newUser) run(args ...string) string {
	u.t.Helper()
	return u.fails(0, args...)
}

// fails runs a command that exits with a code, and returns what it prints.
func (u *newUser) fails(code int, args ...string) string {
	u.t.Helper()
	cmd := u.command(args...)
	out, err := cmd.CombinedOutput()
	u.t.Logf("$ %s\n%s", strings.Join(args, " "), out)
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != code {
		u.t.Fatalf("%q: %v, want the exit code %d", args, err, code)
	}
	return string(out)
}

// says checks that a command has printed some texts.
func (u *newUser) says(out string, wants ...string) {
	u.t.Helper()
	for _, want := range wants {
		if !strings.Contains(out, want) {
			u.t.Errorf("it didn't print %q", want)
		}
	}
}

// movePorts replaces the ports in the files of the project by free ones, since other tests run at the same time. It
// returns the orchestrator's address.
func (u *newUser) movePorts() string {
	u.t.Helper()
	ports := make(map[string]string)
	for _, port := range []string{"7080", "7101", "7102"} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			u.t.Fatal(err)
		}
		defer func() { _ = listener.Close() }()
		ports[port] = strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
	}
	for _, name := range []string{"orders/orchestrator.yaml", "stock/main.go", "payment/main.go"} {
		path := filepath.Join(u.dir, filepath.FromSlash(name))
		data, err := os.ReadFile(path)
		if err != nil {
			u.t.Fatal(err)
		}
		for port, free := range ports {
			data = bytes.ReplaceAll(data, []byte(":"+port), []byte(":"+free))
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			u.t.Fatal(err)
		}
	}
	return "127.0.0.1:" + ports["7080"]
}

// background starts a command in the background, and waits until the orchestrator serves. The function that it returns
// interrupts the command as Ctrl-C does, and waits until it has ended with all that it had started.
func (u *newUser) background(args ...string) (stop func()) {
	u.t.Helper()
	cmd := u.command(args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		u.t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		u.t.Fatal(err)
	}
	serves, ended := make(chan struct{}), make(chan struct{})
	var log strings.Builder
	go func() {
		defer close(ended)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			fmt.Fprintln(&log, lines.Text())
			if strings.HasPrefix(lines.Text(), "orders serving on ") {
				u.served = log.String()
				close(serves)
			}
		}
	}()
	interrupt := func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGINT)
		<-ended // the pipe is closed once no process of it is left
		_ = cmd.Wait()
	}
	select {
	case <-serves:
	case <-ended:
		u.t.Fatalf("%q ended:\n%s", args, log.String())
	case <-time.After(2 * time.Minute):
		interrupt()
		u.t.Fatalf("%q doesn't serve:\n%s", args, log.String())
	}
	return func() {
		interrupt()
		u.t.Logf("$ %s\n%s", strings.Join(args, " "), log.String())
	}
}

// ordersOfReadme returns the commands of the README that start sagas.
func (u *newUser) ordersOfReadme() [][]string {
	u.t.Helper()
	data, err := os.ReadFile(filepath.Join(u.dir, "README.md"))
	if err != nil {
		u.t.Fatal(err)
	}
	text := strings.ReplaceAll(string(data), "\\\n", "")
	var orders [][]string
	for _, line := range regexp.MustCompile(`(?m)^    (treaty start .*)$`).FindAllStringSubmatch(text, -1) {
		before, data, _ := strings.Cut(line[1], "'")
		orders = append(orders, append(strings.Fields(before), strings.TrimSuffix(data, "'")))
	}
	if len(orders) != 2 {
		u.t.Fatalf("the README starts %d sagas, want 2", len(orders))
	}
	return orders
}
