package hostile

import (
	"context"
	"sync"
)

const (
	// defaultWindow is the size of every window before the first SETTINGS and WINDOW_UPDATE.
	defaultWindow = 1<<16 - 1

	// maxWindow is the largest window that HTTP/2 allows.
	maxWindow = 1<<31 - 1

	// maxFrame is the size of a frame that every peer accepts.
	maxFrame = 1 << 14
)

// windows are how much a side may send: the windows of its connection and of its open streams. Its methods are safe for
// concurrent use.
type windows struct {
	mu      sync.Mutex
	conn    int64
	initial int64
	streams map[uint32]int64
	changed chan struct{}
}

func newWindows() *windows {
	return &windows{
		conn: defaultWindow, initial: defaultWindow, streams: make(map[uint32]int64), changed: make(chan struct{}),
	}
}

func (w *windows) open(stream uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.streams[stream] = w.initial
}

// shut forgets a stream. Who waits to send on it gets nothing.
func (w *windows) shut(stream uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.streams, stream)
	w.announce()
}

// add enlarges the window of a stream, or of the connection if stream is 0.
func (w *windows) add(stream uint32, n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if stream == 0 {
		w.conn += n
	} else if _, open := w.streams[stream]; open {
		w.streams[stream] += n
	}
	w.announce()
}

// setInitial changes the windows of all streams, open and later ones, as a SETTINGS frame does.
func (w *windows) setInitial(n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for stream := range w.streams {
		w.streams[stream] += n - w.initial
	}
	w.initial = n
	w.announce()
}

// take waits until the stream may send, and returns how many of the wanted bytes. It returns false if the stream is
// shut or the context has ended. Nothing may always be sent.
func (w *windows) take(ctx context.Context, stream uint32, want int) (n int, ok bool) {
	for {
		w.mu.Lock()
		window, open := w.streams[stream]
		if !open || ctx.Err() != nil {
			w.mu.Unlock()
			return 0, false
		}
		if free := min(w.conn, window, int64(want)); free > 0 || want == 0 {
			free = max(free, 0)
			w.conn -= free
			w.streams[stream] -= free
			w.mu.Unlock()
			return int(free), true
		}
		changed := w.changed
		w.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// announce wakes everyone who waits to send. The caller holds the lock.
func (w *windows) announce() {
	close(w.changed)
	w.changed = make(chan struct{})
}
