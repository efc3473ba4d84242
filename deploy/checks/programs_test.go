package checks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
)

// startTime is how long a program may take until it serves, on a busy machine.
const startTime = time.Minute

// released are the programs of a release, with the folders of their packages.
var released = sync.OnceValues(func() (map[string]string, error) {
	out, err := exec.Command(root+"/tools/release.sh", "list").Output() //nolint:noctx // It only prints.
	if err != nil {
		return nil, fmt.Errorf("listing the programs of a release: %w", err)
	}
	folders := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		name, folder, _ := strings.Cut(strings.TrimSpace(line), " ")
		folders[name] = folder
	}
	return folders, nil
})

// build compiles programs of a release into a folder.
func build(t *testing.T, names ...string) (dir string) {
	t.Helper()
	folders, err := released()
	if err != nil {
		t.Fatal(err)
	}
	if dir, err = filepath.Abs(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if folders[name] == "" {
			t.Fatalf("no release has a program %q", name)
		}
		cmd := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, name), "./"+folders[name])
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", cmd, err, out)
		}
	}
	return dir
}

// skipIfShort skips a test that builds programs, which takes half a minute.
func skipIfShort(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("it builds programs: make proof runs it")
	}
}

// process is a running program.
type process struct {
	name   string
	cmd    *exec.Cmd
	output *bytes.Buffer // to be read after the end
	ended  chan struct{} // closed at the end
	err    error         // set before that
	grace  time.Duration
	once   sync.Once
}

// launch says how to start a program.
type launch struct {
	name, program, dir string
	args               []string
	env                []string // all variables; nothing of this process's environment is passed on

	// grace is how long the program may take to stop.
	grace time.Duration
}

// start starts a program, which is stopped at the end of the test. If the test has failed, its output is logged.
func start(t *testing.T, l launch) *process {
	t.Helper()
	p := &process{name: l.name, output: new(bytes.Buffer), ended: make(chan struct{}), grace: l.grace}
	p.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), l.program, l.args...)
	p.cmd.Dir, p.cmd.Env = l.dir, l.env
	if p.cmd.Env == nil {
		p.cmd.Env = []string{}
	}
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.stop(t)
		if t.Failed() {
			t.Logf("output of %s:\n%s", p.name, p.output)
		}
	})
	return p
}

// stop stops the program as Kubernetes and Docker do. It must end by itself, with the code 0.
func (p *process) stop(t *testing.T) {
	t.Helper()
	p.once.Do(func() { p.end(t) })
}

func (p *process) end(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	timeout := time.NewTimer(p.grace)
	defer timeout.Stop()
	select {
	case <-p.ended:
	case <-timeout.C:
		_ = p.cmd.Process.Kill()
		<-p.ended
		t.Errorf("%s didn't stop within its %s and was killed", p.name, p.grace)
		return
	}
	if p.err != nil {
		t.Errorf("%s: %v", p.name, p.err)
	}
}

// serving waits until a health service reports that a service is serving.
func (p *process) serving(t *testing.T, connection grpc.ClientConnInterface, service string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTime)
	defer cancel()
	go func() {
		select {
		case <-p.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	for ctx.Err() == nil {
		watch, err := healthv1.NewHealthClient(connection).Watch(ctx, &healthv1.HealthCheckRequest{Service: service},
			grpc.WaitForReady(true))
		for err == nil {
			var now *healthv1.HealthCheckResponse
			if now, err = watch.Recv(); err == nil && now.GetStatus() == healthv1.HealthCheckResponse_SERVING {
				return
			}
		}
	}
	t.Fatalf("%s doesn't serve %q: it ended, or took longer than %s", p.name, service, startTime)
}
