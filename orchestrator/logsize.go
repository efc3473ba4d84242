package orchestrator

import (
	"context"
	"log/slog"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

const (
	// logSizeEvery is how often the size of the store's write-ahead log is looked at.
	logSizeEvery = time.Second

	// largeLog is the size in bytes of a write-ahead log that is worth a warning. The store keeps it below a quarter of
	// that unless something keeps its contents from being moved into the store's file.
	largeLog = 128 << 20
)

// logSize warns when a store's write-ahead log grows, and again each time that it has doubled. Its methods aren't safe
// for concurrent use.
type logSize struct {
	store  sizedStore
	logger *slog.Logger

	warned int64 // the size of the last warning; 0 if the log isn't large
}

// sizedStore is what logSize needs of a store.
type sizedStore interface {
	Name() string
	Size() journal.Size
}

// run looks at the size until ctx ends.
func (l *logSize) run(ctx context.Context) {
	ticker := time.NewTicker(logSizeEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			l.look(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// look warns if the log has grown since the last warning, and says when it is small again.
func (l *logSize) look(ctx context.Context) {
	size := l.store.Size().Log
	switch {
	case size >= max(largeLog, 2*l.warned):
		l.warned = size
		l.logger.WarnContext(ctx, "the store's write-ahead log has grown: another program reads an old state of the "+
			"store, e.g. a backup, or the disk is too slow; end that program if it isn't needed",
			"store", l.store.Name(), "log_bytes", size)
	case size < largeLog/2 && l.warned > 0:
		l.warned = 0
		l.logger.InfoContext(ctx, "the store's write-ahead log has shrunk again",
			"store", l.store.Name(), "log_bytes", size)
	}
}
