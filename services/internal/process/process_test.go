package process

import (
	"context"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/contrib/exporters/autoexport"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

func TestParse(t *testing.T) {
	for _, test := range []struct {
		args     []string
		ok, help bool
	}{
		{[]string{"--listen=127.0.0.1:1", "--insecure"}, true, false},
		{[]string{"--own=x"}, true, false},
		{[]string{"--nonsense"}, false, false},
		{[]string{"argument"}, false, false},
		{[]string{"--help"}, false, true},
	} {
		flags, _ := newFlags(Service{Name: "test", AddFlags: func(flags *flag.FlagSet) { flags.String("own", "", "") }})
		flags.SetOutput(io.Discard)
		err := parse(flags, test.args)
		var usage *usageError
		if (err == nil) != test.ok || errors.Is(err, flag.ErrHelp) != test.help ||
			errors.As(err, &usage) == (test.ok || test.help) {
			t.Errorf("%q: %v", test.args, err)
		}
	}
}

func TestRunNamesTheFlags(t *testing.T) {
	for _, test := range []struct{ flag, want string }{
		{"--tls-cert=x", "--tls-key"},
		{"--tls-key=x", "--tls-cert"},
		{"--tls-client-ca=x", "--tls-client-ca requires --tls-cert"},
		{"--orchestrator-identity=sagas.acme.example", "--orchestrator-identity requires --tls-client-ca"},
		{"--orchestrator-identity=", "--orchestrator-identity is empty"},
		{"--listen=0.0.0.0:0", "plaintext is allowed on loopback"},
		{"--listen=localhost", "want host:port"},
	} {
		service := Service{Name: "test", Listen: "127.0.0.1:0"}
		err := run(t.Context(), service, []string{test.flag, "--db=" + filepath.Join(t.TempDir(), "x.db")})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q in it", test.flag, err, test.want)
		}
	}
}

// silenceStdout discards what a service writes to standard output until the test ends.
func silenceStdout(t *testing.T) {
	t.Helper()
	discard, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.Stdout
	os.Stdout = discard
	t.Cleanup(func() {
		os.Stdout = stdout
		if err := discard.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestStopsInOrder(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var order []string
	failed := errors.New("can't close")
	service := Service{Name: "test", Listen: "127.0.0.1:0", Register: func(ctx context.Context, p *Process) error {
		p.OnStop(func() error {
			order = append(order, "first", closed(t, p))
			return failed
		})
		p.OnStop(func() error {
			order = append(order, "second")
			return nil
		})
		p.Go(func() {
			<-ctx.Done()
			order = append(order, "goroutine")
		})
		cancel()
		return nil
	}}
	silenceStdout(t)
	err := run(ctx, service, []string{"--db=" + filepath.Join(t.TempDir(), "x.db")})
	if !errors.Is(err, failed) {
		t.Errorf("got %v, want the error of OnStop", err)
	}
	if want := []string{"goroutine", "second", "first", "database open"}; !slices.Equal(order, want) {
		t.Errorf("stopped in the order %q, want %q", order, want)
	}
}

func closed(t *testing.T, p *Process) string {
	t.Helper()
	if err := p.Store.DB.PingContext(t.Context()); err != nil {
		return "database closed"
	}
	return "database open"
}

// TestStopsWithoutCollector checks that a service which has done all its work ends with the code 0, although nobody
// takes its last spans. Whoever restarts what failed would restart it.
func TestStopsWithoutCollector(t *testing.T) {
	lost := &lostExporter{}
	autoexport.RegisterSpanExporter("lost", func(context.Context) (sdktrace.SpanExporter, error) { return lost, nil })
	t.Setenv("OTEL_TRACES_EXPORTER", "lost")
	ctx, cancel := context.WithCancel(t.Context())
	service := Service{Name: "test", Listen: "127.0.0.1:0", Register: func(context.Context, *Process) error {
		cancel()
		return nil
	}}
	silenceStdout(t)
	if err := run(ctx, service, []string{"--db=" + filepath.Join(t.TempDir(), "x.db")}); err != nil || !lost.asked {
		t.Errorf("it ended with %v, and the exporter was asked for the last spans: %t; want no error", err, lost.asked)
	}
}

// lostExporter is an exporter whose collector is gone.
type lostExporter struct{ asked bool }

// ExportSpans loses the spans.
func (*lostExporter) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error {
	return context.DeadlineExceeded
}

// Shutdown fails like the export of the last spans.
func (e *lostExporter) Shutdown(context.Context) error {
	e.asked = true
	return context.DeadlineExceeded
}

func TestBadExporter(t *testing.T) {
	t.Setenv("OTEL_TRACES_EXPORTER", "pigeon")
	if _, err := startTelemetry(t.Context(), "test"); err == nil {
		t.Error("got no error for an exporter that doesn't exist")
	}
}
