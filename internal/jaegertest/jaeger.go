// Package jaegertest runs a real Jaeger for tests that ask whether a trace is whole. Jaeger is built from its source, pinned in
// tools/jaeger, which takes minutes the first time; so only tests with the build tag proof use it. It listens on loopback, keeps spans in
// memory, and ends with its test.
package jaegertest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	startTimeout = time.Minute
	stopTimeout  = 10 * time.Second
	startTries   = 3
	pollInterval = 50 * time.Millisecond
)

// Jaeger is a running Jaeger. Its methods may be called concurrently.
type Jaeger struct {
	// OTLPEndpoint is where spans are sent to by gRPC, as OTEL_EXPORTER_OTLP_ENDPOINT takes it, e.g. "http://127.0.0.1:4317".
	OTLPEndpoint string

	// OTLPHTTPEndpoint is where spans are sent to by HTTP; "/v1/traces" comes behind it.
	OTLPHTTPEndpoint string

	// QueryURL is where traces are read from, e.g. "http://127.0.0.1:16686"; "/api/traces/{id}" comes behind it.
	QueryURL string

	client http.Client
}

// Env returns the environment variables, as "NAME=value", that make a program send all its spans to this Jaeger at once.
func (j *Jaeger) Env() []string {
	return []string{
		"OTEL_TRACES_EXPORTER=otlp",
		"OTEL_TRACES_SAMPLER=parentbased_always_on",
		"OTEL_EXPORTER_OTLP_PROTOCOL=grpc",
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + j.OTLPEndpoint,
		"OTEL_BSP_SCHEDULE_DELAY=100",
	}
}

// Start builds Jaeger unless that was done before, starts it, and returns when it answers. It stops at the end of the test. It fails
// the test when Jaeger can't be built or doesn't start; what Jaeger printed is logged then.
func Start(t testing.TB) *Jaeger {
	t.Helper()
	program, err := build(t.Context())
	if err != nil {
		t.Fatalf("build Jaeger: %v", err)
	}
	// A port that was free may be taken when Jaeger opens it.
	var problems []error
	for range startTries {
		j, err := start(t, program)
		if err == nil {
			return j
		}
		problems = append(problems, err)
	}
	t.Fatalf("start Jaeger: %v", errors.Join(problems...))
	return nil
}

func start(t testing.TB, program string) (*Jaeger, error) {
	t.Helper()
	flags := []string{
		"--admin.http.host-port", "--query.http-server.host-port", "--collector.otlp.grpc.host-port", "--collector.otlp.http.host-port",
		"--query.grpc-server.host-port", "--collector.grpc-server.host-port", "--collector.http-server.host-port",
	}
	addresses, err := freeAddresses(t.Context(), len(flags))
	if err != nil {
		return nil, err
	}
	var args []string
	for i, flag := range flags {
		args = append(args, flag, addresses[i])
	}

	// The test's own context ends before its cleanups run, and what they read must still be there.
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	output := new(strings.Builder)
	command := exec.CommandContext(ctx, program, args...)
	command.Env = append(os.Environ(), "OTEL_TRACES_SAMPLER=always_off") // It would send spans of its own.
	command.Stdout, command.Stderr = output, output
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = stopTimeout
	if err := command.Start(); err != nil {
		stop()
		return nil, fmt.Errorf("run %s: %w", program, err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = command.Wait() // It was interrupted, or what it printed says more.
	}()
	end := sync.OnceFunc(func() {
		stop()
		<-ended
	})

	j := &Jaeger{
		QueryURL:         "http://" + addresses[1],
		OTLPEndpoint:     "http://" + addresses[2],
		OTLPHTTPEndpoint: "http://" + addresses[3],
	}
	if err := j.awaitReady(ctx, "http://"+addresses[0], ended); err != nil {
		end()
		return nil, fmt.Errorf("%w; it printed:\n%s", err, output)
	}
	t.Cleanup(func() {
		end()
		if t.Failed() {
			t.Logf("Jaeger printed:\n%s", output)
		}
	})
	return j, nil
}

// awaitReady returns when Jaeger says that all its parts are up.
func (j *Jaeger) awaitReady(ctx context.Context, health string, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		if _, err := j.get(ctx, health); err == nil {
			return nil
		}
		select {
		case <-ended:
			return errors.New("it ended at once")
		case <-ctx.Done():
			return fmt.Errorf("not ready within %v", startTimeout)
		case <-ticker.C:
		}
	}
}

// freeAddresses returns addresses on loopback whose ports are free now.
func freeAddresses(ctx context.Context, n int) ([]string, error) {
	var addresses []string
	for range n {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer listener.Close() // All are held until the last is found, so that they differ.
		addresses = append(addresses, listener.Addr().String())
	}
	return addresses, nil
}

var building sync.Mutex

// build returns the path of Jaeger's program, bin/jaeger below the module's root, and builds it when it is missing or older than its
// pinned versions.
func build(ctx context.Context) (string, error) {
	building.Lock()
	defer building.Unlock()
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	program := filepath.Join(root, "bin", "jaeger")
	pins := filepath.Join(root, "tools", "jaeger")
	if fresh(program, filepath.Join(pins, "go.mod"), filepath.Join(pins, "go.sum")) {
		return program, nil
	}
	// Another test's process may build, too: the last one to finish wins, with the same program.
	unfinished := fmt.Sprintf("%s.%d", program, os.Getpid())
	command := exec.CommandContext(ctx, "go", "build", "-o", unfinished, "github.com/jaegertracing/jaeger/cmd/all-in-one")
	command.Dir = pins
	if printed, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w; go build printed:\n%s", err, printed)
	}
	if err := os.Rename(unfinished, program); err != nil {
		return "", fmt.Errorf("put the program in its place: %w", err)
	}
	return program, nil
}

// fresh says whether a file is there and not older than any of its sources.
func fresh(file string, sources ...string) bool {
	built, err := os.Stat(file)
	if err != nil {
		return false
	}
	for _, source := range sources {
		if info, err := os.Stat(source); err != nil || info.ModTime().After(built.ModTime()) {
			return false
		}
	}
	return true
}

// moduleRoot returns the directory above the test's that holds tools/jaeger.
func moduleRoot() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the module's root: %w", err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "tools", "jaeger", "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no tools/jaeger/go.mod in %s or above", start)
		}
	}
}
