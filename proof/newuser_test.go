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
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// newUser is a person with an empty folder and a machine that has Go, make and the treaty program, and nothing else.
type newUser struct {
	t   *testing.T
	dir string
	env []string
}

// What make run and treaty dev print once all processes serve, in any order.
var (
	runServes = []string{"service=stock", "service=payment", "orders serving on "}
	devServes = append(slices.Clone(runServes), "stock is ready on ", "payment is ready on ", "orders is ready on ")
)

// TestNewUser follows what treaty init and the README that it writes say: it generates, tests, runs, places orders, and
// changes the project. The user has a workspace with other modules, which the project isn't in.
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
	if err := os.WriteFile(filepath.Join(u.dir, "go.work"), []byte("go 1.26\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	u.says(u.run("treaty", "init", "shop", "--replace", checkout), "Wrote ", "make run")
	u.dir = filepath.Join(u.dir, "shop")
	address := u.movePorts()
	u.says(u.run("make"), "ok  \texample.com/shop/orders", "ok  \texample.com/shop/stock")
	if again := u.run("make"); strings.Contains(again, "buf generate") {
		t.Errorf("the code is generated again:\n%s", again)
	}

	makeRun := u.background([]string{"make", "run"}, runServes...)
	orders := u.ordersOfReadme()
	placed, declined := append(orders[0], "--address", address), append(orders[1], "--address", address)
	u.says(u.fails(0, placed...), "SUCCEEDED", `{"reservation":"reservations/1","charge":"charges/1"}`)
	u.says(u.fails(3, declined...), "COMPENSATED", "payment.v1.CardDeclined")
	u.says(u.run("treaty", "sagas", "list", "--address", address), "COMPENSATED", "SUCCEEDED", "customer=ada")
	makeRun.stop()

	dev := u.background([]string{"treaty", "dev"}, devServes...)
	u.says(u.fails(3, declined...), "COMPENSATED")
	dev.await("  COMPENSATED  order.v1.OrderSagas/PlaceOrder")
	u.edit("payment/main.go", "limitCents = 100_00", "limitCents = 1000_00")
	dev.await("restarting payment: main.go changed")
	u.says(u.fails(0, declined...), "SUCCEEDED")
	u.edit("proto/stock/v1/stock_service.proto", "// How many there are.", "// How many are left.")
	dev.await("restarting stock: stock_service.proto changed", "restarting orders: stock_service.proto changed")
	dev.stop()
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

// edit replaces a text in a file of the project.
func (u *newUser) edit(name, old, by string) {
	u.t.Helper()
	path := filepath.Join(u.dir, filepath.FromSlash(name))
	data, err := os.ReadFile(path)
	if err != nil {
		u.t.Fatal(err)
	}
	if !bytes.Contains(data, []byte(old)) {
		u.t.Fatalf("%s doesn't have %q", name, old)
	}
	if err := os.WriteFile(path, bytes.ReplaceAll(data, []byte(old), []byte(by)), 0o600); err != nil {
		u.t.Fatal(err)
	}
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
	for name, has := range map[string][]string{
		"orders/orchestrator.yaml": {"7080", "7101", "7102"},
		"treaty.dev.yaml":          {"7080", "7101", "7102"},
		"stock/main.go":            {"7101"},
		"payment/main.go":          {"7102"},
	} {
		for _, port := range has {
			u.edit(name, ":"+port, ":"+ports[port])
		}
	}
	return "127.0.0.1:" + ports["7080"]
}

// background is a command in a terminal of its own.
type background struct {
	u     *newUser
	args  []string
	cmd   *exec.Cmd
	ended chan struct{}

	mu      sync.Mutex
	printed strings.Builder
	more    chan struct{} // closed at the next line
}

// background starts a command, and waits until it has printed some texts.
func (u *newUser) background(args []string, until ...string) *background {
	u.t.Helper()
	b := &background{u: u, args: args, cmd: u.command(args...), ended: make(chan struct{}), more: make(chan struct{})}
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := b.cmd.StdinPipe() // stays open, as a terminal does
	if err != nil {
		u.t.Fatal(err)
	}
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		u.t.Fatal(err)
	}
	b.cmd.Stderr = b.cmd.Stdout
	if err := b.cmd.Start(); err != nil {
		u.t.Fatal(err)
	}
	go func() {
		defer close(b.ended)
		defer func() { _ = stdin.Close() }()
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			b.mu.Lock()
			fmt.Fprintln(&b.printed, lines.Text())
			close(b.more)
			b.more = make(chan struct{})
			b.mu.Unlock()
		}
	}()
	b.await(until...)
	return b
}

// await waits until the command has printed some texts.
func (b *background) await(texts ...string) {
	b.u.t.Helper()
	timeout := time.After(2 * time.Minute)
	for {
		printed, more := b.log()
		if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(printed, text) }) {
			return
		}
		select {
		case <-more:
		case <-b.ended:
			b.u.t.Fatalf("%q ended without printing %q:\n%s", b.args, texts, printed)
		case <-timeout:
			b.stop()
			b.u.t.Fatalf("%q doesn't print %q:\n%s", b.args, texts, printed)
		}
	}
}

// log returns what the command has printed, and a channel that is closed when there is more.
func (b *background) log() (string, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.printed.String(), b.more
}

// stop interrupts the command as Ctrl-C does, and waits until it has ended with all that it had started.
func (b *background) stop() {
	_ = syscall.Kill(-b.cmd.Process.Pid, syscall.SIGINT)
	<-b.ended // the pipe is closed once no process of it is left
	_ = b.cmd.Wait()
	printed, _ := b.log()
	b.u.t.Logf("$ %s\n%s", strings.Join(b.args, " "), printed)
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
