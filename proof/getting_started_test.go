package proof

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestGettingStarted follows docs/getting-started.md: it types every command of its console blocks, in their order, and
// compares what each prints with the page. Times, names of sagas, addresses and paths may differ. TestNewUser does what
// the page says in words: it changes a file while treaty dev runs.
func TestGettingStarted(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds tools and programs")
	}
	began := time.Now()
	text, err := os.ReadFile(filepath.Join("..", "docs", "getting-started.md"))
	if err != nil {
		t.Fatal(err)
	}
	checkout, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	u := newNewUser(t)
	u.useNode()
	if err := os.Symlink(checkout, filepath.Join(u.dir, "treaty")); err != nil { // as git clone would make it
		t.Fatal(err)
	}
	shell := newShell(t, u)
	shop := filepath.Join(u.dir, "shop")
	var other *background
	ports := strings.NewReplacer()

	block := regexp.MustCompile("(?s)(?:<!-- ([^\n]*) -->\n)?```console\n(.*?)```\n")
	commands := 0
	for _, found := range block.FindAllStringSubmatch(string(text), -1) {
		remark, session := found[1], parseSession(t, found[2])
		switch remark {
		case "":
		case "Ctrl-C in the other terminal":
			other.stop()
		case "in another terminal, in shop", "Ctrl-C in the other terminal, then there":
			if other != nil {
				other.stop()
			}
			until := runServes
			if session[0].command == "treaty dev" {
				until = devServes
			}
			u.dir = shop
			other = u.background(strings.Fields(session[0].command), until...)
			printed, _ := other.log()
			session[0].compare(t, printed)
			continue
		default:
			t.Fatalf("the page has a remark that the test doesn't know: %s", remark)
		}
		for _, step := range session {
			commands++
			step.run(t, shell, ports.Replace(step.command))
			if t.Failed() {
				t.FailNow()
			}
			if step.command == "cd shop" {
				before := u.dir
				u.dir = shop
				shell.run("export TREATY_ADDRESS=" + u.movePorts())
				ports = strings.NewReplacer("127.0.0.1:7101", listenerOf(t, filepath.Join(shop, "stock", "main.go")))
				u.dir = before
			}
		}
	}
	if commands < 20 {
		t.Errorf("the page has %d commands; check the pattern", commands)
	}
	t.Logf("following the page took %s", time.Since(began).Round(time.Second))
}

// useNode lets the user run this machine's Node, with the registry that npm is configured for.
func (u *newUser) useNode() {
	u.t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		u.t.Fatalf("the page needs Node: %v", err)
	}
	for i, variable := range u.env {
		if strings.HasPrefix(variable, "PATH=") {
			u.env[i] = variable + string(filepath.ListSeparator) + filepath.Dir(node)
		}
	}
	for _, name := range []string{"userconfig", "cache"} {
		value, err := exec.CommandContext(u.t.Context(), "npm", "config", "get", name).Output()
		if err != nil {
			u.t.Fatal(err)
		}
		u.env = append(u.env, "npm_config_"+name+"="+strings.TrimSpace(string(value)))
	}
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
		"NODE_EXTRA_CA_CERTS"} {
		if value, set := os.LookupEnv(name); set {
			u.env = append(u.env, name+"="+value)
		}
	}
}

// listenerOf returns the address on which a participant listens by default.
func listenerOf(t *testing.T, file string) string {
	t.Helper()
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(string(source))
}

// pageStep is a command of the page and what it prints.
type pageStep struct{ command, prints string }

// parseSession reads a console block. A command starts with "$ " and has one line.
func parseSession(t *testing.T, text string) []pageStep {
	t.Helper()
	var steps []pageStep
	for line := range strings.Lines(text) {
		command, is := strings.CutPrefix(line, "$ ")
		switch {
		case is:
			steps = append(steps, pageStep{command: strings.TrimSpace(command)})
		case len(steps) == 0:
			t.Fatalf("a console block doesn't start with a command:\n%s", text)
		default:
			steps[len(steps)-1].prints += line
		}
	}
	return steps
}

// run runs the command and compares what it prints. A command that only looks is run again until it prints that: what a
// person sees who types more slowly.
func (s pageStep) run(t *testing.T, shell *shell, command string) {
	t.Helper()
	got := shell.run(command)
	looks := strings.HasPrefix(command, "treaty sagas ") || strings.HasPrefix(command, "treaty definitions")
	for end := time.Now().Add(20 * time.Second); looks && alike(got) != alike(s.prints) && time.Now().Before(end); {
		<-time.After(100 * time.Millisecond)
		got = shell.run(command)
	}
	s.compare(t, got)
}

func (s pageStep) compare(t *testing.T, got string) {
	t.Helper()
	t.Logf("$ %s\n%s", s.command, got)
	if alike(got) != alike(s.prints) {
		t.Errorf("$ %s\nprints\n%s\nbut the page shows\n%s", s.command, got, s.prints)
	}
}

// differing are the parts of an output that differ each time, and what stands for them. Whether a saga waits for a
// participant that is starting, and so what is said of that, depends on the machine.
var differing = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`(?m)^\S*bash: line \d+: .*Killed.*\n`), ""},
	{regexp.MustCompile(`(?m)^treaty +\| building .*\n`), ""},
	{regexp.MustCompile(`(?m)^orders +\| .*msg="participant is (down|there).*\n`), ""},
	{regexp.MustCompile(`(?m)^waiting for sagas/\S+, which is RUNNING: \S+\n`), ""},
	{regexp.MustCompile(`(?m)^sagas/\S+ waits: the participant of .* is down.*\n`), ""},
	{regexp.MustCompile(`\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d(\.\d+Z)?`), "TIME"},
	{regexp.MustCompile(`sagas/[rs][0-9a-z]{20,}`), "SAGA"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "ADDRESS"},
	{regexp.MustCompile(`/\S+/data/`), "DATA/"},
	{regexp.MustCompile(`\b\d+(\.\d+)?(µs|ms|s)\b|\(cached\)`), "SPAN"},
	{regexp.MustCompile(`(etag +)\S+`), "${1}ETAG"},
	{regexp.MustCompile(` +`), " "},
}

// alike returns an output without what differs each time. Lines that several programs print at the same time have no
// order.
func alike(output string) string {
	for _, d := range differing {
		output = d.pattern.ReplaceAllString(output, d.with)
	}
	lines := strings.Split(strings.TrimSpace(output), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	if slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, "INFO listening") }) {
		slices.Sort(lines)
	}
	return strings.Join(lines, "\n")
}

// shell is a terminal in which one command is typed after the other.
type shell struct {
	t      *testing.T
	input  io.Writer
	output *bufio.Reader
}

const endMark = "<<<the command has ended>>>"

// newShell starts a shell in the user's folder. It ends with the test, and all that it started with it.
func newShell(t *testing.T, u *newUser) *shell {
	t.Helper()
	cmd := u.command("bash", "--norc", "-s")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
	return &shell{t: t, input: input, output: bufio.NewReader(output)}
}

// run types a command and returns what it prints.
func (s *shell) run(command string) string {
	s.t.Helper()
	if _, err := fmt.Fprintf(s.input, "%s\necho '%s'\n", command, endMark); err != nil {
		s.t.Fatal(err)
	}
	var printed strings.Builder
	for {
		line, err := s.output.ReadString('\n')
		if err != nil {
			s.t.Fatalf("$ %s\n%s%v", command, printed.String(), err)
		}
		if before, ended := strings.CutSuffix(line, endMark+"\n"); ended {
			printed.WriteString(before)
			return printed.String()
		}
		printed.WriteString(line)
	}
}
