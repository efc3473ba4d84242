// Package jaegertest runs a real Jaeger for tests that check complete traces.
//
// [Start] builds Jaeger from the source that tools/jaeger pins. The first build takes minutes, so only tests with the
// build tag proof use this package. Jaeger listens on loopback, keeps spans in memory, and stops at the end of its
// test.
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

// Jaeger is a running Jaeger. Its methods are safe for concurrent use.
type Jaeger struct {
	// OTLPEndpoint is the URL that receives spans over gRPC, for OTEL_EXPORTER_OTLP_ENDPOINT, e.g.
	// "http://127.0.0.1:4317".
	OTLPEndpoint string

	// OTLPHTTPEndpoint is the base URL that receives spans over HTTP. Append "/v1/traces".
	OTLPHTTPEndpoint string

	// QueryURL is the base URL that serves traces, e.g. "http://127.0.0.1:16686". Append "/api/traces/{id}".
	QueryURL string

	client http.Client
}

// Env returns environment variables, as "NAME=value", with which a program sends all its spans to this Jaeger without
// delay.
func (j *Jaeger) Env() []string {
	return []string{
		"OTEL_TRACES_EXPORTER=otlp",
		"OTEL_TRACES_SAMPLER=parentbased_always_on",
		"OTEL_EXPORTER_OTLP_PROTOCOL=grpc",
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + j.OTLPEndpoint,
		"OTEL_BSP_SCHEDULE_DELAY=100",
	}
}

// Start starts Jaeger and returns when it is ready. It builds Jaeger first if bin/jaeger is missing or old. Jaeger
// stops at the end of the test. Start fails the test if Jaeger can't be built or doesn't start. If the test fails,
// Jaeger's output is logged.
func Start(t testing.TB) *Jaeger {
	t.Helper()
	program, err := build(t.Context())
	if err != nil {
		t.Fatalf("build Jaeger: %v", err)
	}
	// Another process may take a free port before Jaeger opens it.
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
		"--admin.http.host-port", "--query.http-server.host-port",
		"--collector.otlp.grpc.host-port", "--collector.otlp.http.host-port",
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

	// The test's context ends before its cleanups run, and they may still read traces.
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	output := new(strings.Builder)
	command := exec.CommandContext(ctx, program, args...)
	command.Env = append(os.Environ(), "OTEL_TRACES_SAMPLER=always_off") // Jaeger must not send its own spans.
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
		_ = command.Wait() // The output says more than the error.
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
		return nil, fmt.Errorf("%w; its output:\n%s", err, output)
	}
	t.Cleanup(func() {
		end()
		if t.Failed() {
			t.Logf("the output of Jaeger:\n%s", output)
		}
	})
	return j, nil
}

// awaitReady waits until Jaeger's health check succeeds.
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
			return errors.New("it exited at once")
		case <-ctx.Done():
			return fmt.Errorf("not ready within %v", startTimeout)
		case <-ticker.C:
		}
	}
}

// freeAddresses returns loopback addresses whose ports are currently free.
func freeAddresses(ctx context.Context, n int) ([]string, error) {
	var addresses []string
	for range n {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer listener.Close() // Hold all of them until the last is found, so that they differ.
		addresses = append(addresses, listener.Addr().String())
	}
	return addresses, nil
}

var building sync.Mutex

// build returns the path of the Jaeger binary, bin/jaeger in the module's root. It builds the binary if it is missing
// or older than its pinned versions.
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
	// Another test process may build at the same time. Both build the same program, so the last rename may win.
	unfinished := fmt.Sprintf("%s.%d", program, os.Getpid())
	command := exec.CommandContext(ctx, "go", "build", "-o", unfinished,
		"github.com/jaegertracing/jaeger/cmd/all-in-one")
	command.Dir = pins
	if printed, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w; the output of go build:\n%s", err, printed)
	}
	if err := os.Rename(unfinished, program); err != nil {
		return "", fmt.Errorf("install the program: %w", err)
	}
	return program, nil
}

// fresh reports whether a file exists and isn't older than any of its sources.
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

// moduleRoot returns the nearest parent directory that has tools/jaeger.
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
