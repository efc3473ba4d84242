package orchestrator

import (
	"errors"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"
)

// starvedInterval is the shortest time between two log lines that say that no connection can be accepted.
const starvedInterval = time.Minute

// watchedListener is a listener that logs when the process has no file descriptors left. gRPC tries again by itself and
// says nothing, so that callers only see that nobody answers.
type watchedListener struct {
	net.Listener

	logger *slog.Logger

	mu     sync.Mutex
	logged time.Time
}

// Accept waits for the next connection.
func (l *watchedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if (errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)) && l.due(time.Now()) {
		l.logger.Error("this process has used up its file descriptors, so it accepts no connections: raise the limit "+
			"of open files (ulimit -n, LimitNOFILE), or find out what holds them; it goes on accepting once it can",
			"address", addressFrom(l.Listener), "error", err)
	}
	return conn, err
}

func (l *watchedListener) due(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.logged.IsZero() && now.Sub(l.logged) < starvedInterval {
		return false
	}
	l.logged = now
	return true
}
