package orchestrator

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// starving is a listener of a process without file descriptors.
type starving struct{ net.Listener }

func (starving) Accept() (net.Conn, error) {
	return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
}

func (starving) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7080} }

// TestLogSaysThatNoConnectionIsAccepted accepts connections while the process has no file descriptors. gRPC tries again
// at least once a second.
func TestLogSaysThatNoConnectionIsAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		l := &watchedListener{Listener: starving{}, logger: slog.New(slog.NewTextHandler(&log, nil))}
		accept := func(seconds int) {
			for range seconds {
				if _, err := l.Accept(); !errors.Is(err, syscall.EMFILE) {
					t.Fatalf("got %v", err)
				}
				<-time.After(time.Second)
			}
		}
		accept(60)
		if n := strings.Count(log.String(), "file descriptors"); n != 1 {
			t.Fatalf("%d lines in a minute, want 1:\n%s", n, log.String())
		}
		if !strings.Contains(log.String(), "127.0.0.1:7080") || !strings.Contains(log.String(), "level=ERROR") {
			t.Errorf("the log: %s", log.String())
		}
		accept(1)
		if n := strings.Count(log.String(), "file descriptors"); n != 2 {
			t.Errorf("%d lines after a minute, want 2:\n%s", n, log.String())
		}
	})
}
