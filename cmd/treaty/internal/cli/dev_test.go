package cli

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/treatyhq/treaty/cmd/treaty/internal/servertest"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

func TestDevUsage(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("wrong.yaml", []byte("processes:\n  - name: a\n    comand: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"no file":     {[]string{"dev"}, "treaty.dev.yaml: "},
		"two files":   {[]string{"dev", "a", "b"}, "doesn't take"},
		"unknown key": {[]string{"dev", "wrong.yaml"}, "wrong.yaml: line 3: the key comand is unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			got := run(t, setup{args: test.args})
			if got.code != 2 || !strings.Contains(got.stderr, test.want) {
				t.Errorf("exit code %d, %q; want 2 and %q", got.code, got.stderr, test.want)
			}
		})
	}
}

// TestDevQuits starts a process and quits.
func TestDevQuits(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f.yaml")
	if err := os.WriteFile(file, []byte("processes:\n  - name: a\n    command: sleep 1000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := run(t, setup{args: []string{"dev", file}, stdin: "r b\nq\n"})
	ended := strings.Contains(got.stdout, "all processes have ended")
	if got.code != 0 || !ended || strings.Contains(got.stdout, "\x1b") {
		t.Errorf("exit code %d:\n%s%s", got.code, got.stdout, got.stderr)
	}
}

// TestDevShowsNewEnds starts beside an orchestrator two of whose sagas have just ended. Those aren't shown.
func TestDevShowsNewEnds(t *testing.T) {
	f := servertest.New(t)
	f.Sagas = []*treatyv1.Saga{succeeded(t), compensated(t)}
	file := filepath.Join(t.TempDir(), "f.yaml")
	text := "orchestrator: " + f.Address + "\nprocesses:\n  - name: a\n    command: sleep 1000\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	stdin, typed := io.Pipe()
	go func() {
		lists := func() (n int) {
			for _, request := range f.Requests() {
				if _, is := request.(*treatyv1.ListSagasRequest); is {
					n++
				}
			}
			return n
		}
		for lists() < 3 && t.Context().Err() == nil { // the third one belongs to the second look
			<-time.After(10 * time.Millisecond)
		}
		_, _ = io.WriteString(typed, "q\n")
	}()
	var stdout, stderr buffer
	p := process(setup{args: []string{"dev", file}, address: f.Address}, &stdout, &stderr)
	p.Stdin = stdin
	code := Run(t.Context(), p)
	if got := stdout.String(); code != 0 || strings.Contains(got, "sagas/") {
		t.Errorf("exit code %d:\n%s%s", code, got, stderr.String())
	}
}
