package policy_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/treatyhq/treaty/internal/policy"
	"github.com/treatyhq/treaty/orchestrator/access"
)

const (
	onlyWeb   = "grants:\n- principals: spiffe://acme.example/web\n  actions: administer\n"
	onlyOther = "grants:\n- principals: spiffe://acme.example/other\n  actions: administer\n"
)

// TestReload changes the file. A valid one is used within the interval, and Changed says so. Another one changes
// nothing but the log.
func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "policy.yaml")
		write := func(text string) {
			t.Helper()
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var log sharedLog
		write(onlyWeb)
		file, err := policy.Open(policy.FileParams{Path: path, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			file.Watch(ctx)
		}()
		defer func() {
			stop()
			<-ended
		}()
		for _, step := range []struct {
			name    string
			change  func()
			web     bool // whether web may, afterwards
			changes bool
			logs    string
		}{
			{"nothing", func() {}, true, false, ""},
			{"another policy", func() { write(onlyOther) }, false, true, "replaced"},
			{"half a file", func() { write(onlyWeb[:20]) }, false, false, "invalid"},
			{"it stays so", func() {}, false, false, ""},
			{"an unknown role", func() { write("grants: [{principals: local, roles: boss}]") }, false, false, "boss"},
			{"an empty file", func() { write("") }, false, false, "no grants"},
			{"no file", func() { _ = os.Remove(path) }, false, false, "no such file"},
			{"still none", func() {}, false, false, ""},
			{"the same policy", func() { write(onlyOther) }, false, false, "in use again"},
			{"the first policy", func() { write(onlyWeb) }, true, true, "replaced"},
		} {
			changed := file.Changed()
			step.change()
			<-time.After(policy.Interval * 3 / 2)
			synctest.Wait()
			select {
			case <-changed:
				if !step.changes {
					t.Errorf("%s: it changed", step.name)
				}
			default:
				if step.changes {
					t.Errorf("%s: nothing changed", step.name)
				}
			}
			err := file.Authorize(t.Context(), access.Request{Principal: web, Action: access.Administer})
			if (err == nil) != step.web {
				t.Errorf("%s: %v", step.name, err)
			}
			if text := log.take(); !strings.Contains(text, step.logs) || (text == "") != (step.logs == "") {
				t.Errorf("%s: the log is %q, want %q", step.name, text, step.logs)
			}
		}
	})
}

// sharedLog collects what several goroutines log.
type sharedLog struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write adds to the log.
func (l *sharedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// take returns what was logged since the last call.
func (l *sharedLog) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.text.Reset()
	return l.text.String()
}

// TestOpenRefuses has files that are no policy at the start.
func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	if _, err := policy.Open(policy.FileParams{Path: filepath.Join(dir, "none")}); err == nil {
		t.Error("a file that isn't there is a policy")
	}
	path := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(path, []byte("grants: 1"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := policy.Open(policy.FileParams{Path: path}); err == nil ||
		!strings.HasPrefix(err.Error(), path+":1:9: ") {
		t.Errorf("got %v", err)
	}
}
