package quota

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	// DefaultStreams is the default of Limits.Streams.
	DefaultStreams = 64

	// DefaultTotalStreams is the default of Limits.TotalStreams.
	DefaultTotalStreams = 1000

	// DefaultStalledAfter is the default of Limits.StalledAfter.
	DefaultStalledAfter = 30 * time.Second

	// callBytes is how many bytes of a call may wait when it gets room for more.
	callBytes = 16 << 10

	// connectionBytes limits the bytes that wait for one connection. A single message that has more is sent alone.
	connectionBytes = 4 << 20

	// callerBytes limits the bytes that wait for one caller, on all connections.
	callerBytes = 16 << 20

	// totalBytes limits the bytes that wait for all callers.
	totalBytes = 64 << 20
)

var (
	// ErrCallerStreams says that the caller has as many streams as it may.
	ErrCallerStreams = errors.New("the caller has too many open streams")

	// ErrTotalStreams says that all callers together have as many streams as they may.
	ErrTotalStreams = errors.New("there are too many open streams")

	// ErrStalled says that a call got no room for a while: its reader, or others, take nothing.
	ErrStalled = errors.New("what was sent isn't read")

	// ErrInterrupted says that a wait was interrupted.
	ErrInterrupted = errors.New("interrupted")
)

// Limits are the limits of a Quota. 0 is the default of each.
type Limits struct {
	// Streams is how many streams one caller may have open. Default DefaultStreams.
	Streams int

	// TotalStreams is how many streams may be open. Default DefaultTotalStreams.
	TotalStreams int

	// StalledAfter is how long a call waits for room while its reader takes nothing. Default DefaultStalledAfter.
	StalledAfter time.Duration
}

// Quota counts what callers hold. It is safe for concurrent use.
type Quota struct {
	limits Limits

	mu          sync.Mutex
	total       holder
	callers     map[string]*holder
	connections map[string]*holder
	waiting     []*waiter // who came first is first
}

// New returns a Quota that nobody uses yet.
func New(limits Limits) *Quota {
	if limits.Streams <= 0 {
		limits.Streams = DefaultStreams
	}
	if limits.TotalStreams <= 0 {
		limits.TotalStreams = DefaultTotalStreams
	}
	if limits.StalledAfter <= 0 {
		limits.StalledAfter = DefaultStalledAfter
	}
	return &Quota{
		limits: limits, total: holder{limit: totalBytes},
		callers: make(map[string]*holder), connections: make(map[string]*holder),
	}
}

// Limits returns the limits, with the defaults filled in.
func (q *Quota) Limits() Limits { return q.limits }

// Usage is what callers hold at one moment.
type Usage struct {
	// Streams is how many streams are open.
	Streams int

	// Bytes is how many bytes are reserved, or wait until they are read.
	Bytes int64

	// Callers and Connections are how many callers and connections hold something.
	Callers, Connections int
}

// Usage returns what callers hold now.
func (q *Quota) Usage() Usage {
	q.mu.Lock()
	defer q.mu.Unlock()
	return Usage{
		Streams: q.total.streams, Bytes: q.total.bytes, Callers: len(q.callers), Connections: len(q.connections),
	}
}

// Stream opens a stream of a caller on a connection. It returns ErrCallerStreams or ErrTotalStreams if there are too
// many. Close the call at its end.
func (q *Quota) Stream(connection, caller string) (*Call, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if known := q.callers[caller]; known != nil && known.streams >= q.limits.Streams {
		return nil, ErrCallerStreams
	}
	if q.total.streams >= q.limits.TotalStreams {
		return nil, ErrTotalStreams
	}
	c := q.open(connection, caller)
	c.stream = 1
	c.count(1)
	return c, nil
}

// Unary begins a call that isn't a stream. Close it at its end.
func (q *Quota) Unary(connection, caller string) *Call {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.open(connection, caller)
}

// open returns a new call. The caller holds the lock.
func (q *Quota) open(connection, caller string) *Call {
	c := &Call{
		quota: q, took: make(chan struct{}, 1),
		connection: held(q.connections, connection, connectionBytes), caller: held(q.callers, caller, callerBytes),
	}
	if c.connection.calls == nil {
		c.connection.calls = make(map[*Call]struct{})
	}
	c.connection.calls[c] = struct{}{}
	c.connection.uses++
	c.caller.uses++
	return c
}

// held returns who holds something under a name.
func held(holders map[string]*holder, name string, limit int64) *holder {
	h := holders[name]
	if h == nil {
		h = &holder{name: name, limit: limit}
		holders[name] = h
	}
	return h
}

// Disconnect forgets what waits for a connection that has closed.
func (q *Quota) Disconnect(connection string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	h := q.connections[connection]
	if h == nil {
		return
	}
	for _, c := range slices.Collect(maps.Keys(h.calls)) {
		c.charge(-c.bytes)
		c.gone = true
		c.finish()
	}
	q.admit()
}

// holder is a connection, a caller or everybody.
type holder struct {
	name    string
	limit   int64
	bytes   int64
	streams int
	uses    int                // the calls that count here
	calls   map[*Call]struct{} // of a connection
}

// fits returns whether there is room for more bytes. Somebody who holds nothing always has room, so that what is larger
// than the limit can be sent.
func (h *holder) fits(bytes int64) bool { return h.bytes == 0 || h.bytes+bytes <= h.limit }

// waiter waits for room.
type waiter struct {
	call    *Call
	bytes   int64
	granted chan struct{} // closed with room
}

// admit gives room to those who wait, as far as there is some. The caller holds the lock.
func (q *Quota) admit() {
	if len(q.waiting) == 0 {
		return
	}
	q.waiting = slices.DeleteFunc(q.waiting, func(w *waiter) bool {
		if !w.call.fits(w.bytes) {
			return false
		}
		w.call.charge(w.bytes)
		close(w.granted)
		return true
	})
}
