package cluster

import (
	"context"
	"errors"
	"log/slog"
	"sync"
)

// failureLog logs what fails once, and once more when it works again. Its methods may be called concurrently.
type failureLog struct {
	logger *slog.Logger

	mutex   sync.Mutex
	failing map[string]bool
}

// report notes what came of something. A call that was cancelled says nothing.
func (t *failureLog) report(doing string, err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	t.mutex.Lock()
	defer t.mutex.Unlock()
	failed := err != nil
	if t.failing[doing] == failed {
		return
	}
	if t.failing == nil {
		t.failing = make(map[string]bool)
	}
	t.failing[doing] = failed
	if failed {
		t.logger.Error("the database doesn't do what the cluster needs; trying again", "doing", doing, "error", err)
		return
	}
	t.logger.Info("the database does again what the cluster needs", "doing", doing)
}
