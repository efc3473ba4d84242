package hostile

import (
	"io"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// conn is a connection of a client.
type conn struct {
	*side
	middle *Middle
	number int
	link   *link // nil if the upstream was down

	// cut says that the middle closes the connection.
	cut atomic.Bool

	mu      sync.Mutex
	streams map[uint32]*stream
	highest uint32
	lost    bool // the connection ends

	// limit is the last stream that the client was told is being handled. Later ones are ignored.
	limit uint32
}

// serve serves a client until its connection ends.
func (m *Middle) serve(raw net.Conn) {
	m.programMu.Lock()
	m.connections++
	number := m.connections
	m.programMu.Unlock()

	c := &conn{side: newSide(m.ctx, raw), middle: m, number: number, streams: make(map[uint32]*stream),
		limit: math.MaxInt32}
	defer c.hangUp()
	if !c.handshake() {
		return
	}
	m.running.Go(c.write)
	c.read(c)
	c.gone()
}

// handshake connects the client with the upstream, and exchanges the first frames.
func (c *conn) handshake() bool {
	_ = c.conn.SetReadDeadline(time.Now().Add(handshakeTimeout))
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(c.conn, preface); err != nil || string(preface) != http2.ClientPreface {
		return false
	}
	_ = c.conn.SetReadDeadline(time.Time{})
	l, err := c.middle.connect()
	if err != nil {
		c.greet()
		return c.middle.options.Alone
	}
	c.link = l
	if !l.attach(c) {
		l.retire()
		return false
	}
	return true
}

// close closes the connection after the frames that are queued, and takes no more calls.
func (c *conn) close() {
	c.mu.Lock()
	c.lost = true
	c.mu.Unlock()
	c.cut.Store(true)
	c.hangUpSoon()
}

// stream returns an open stream, or nil.
func (c *conn) stream(id uint32) *stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.streams[id]
}

// drop forgets a stream that has ended for the client.
func (c *conn) drop(id uint32) {
	c.mu.Lock()
	delete(c.streams, id)
	idle := c.lost && !c.owes()
	c.mu.Unlock()
	c.windows.shut(id)
	if idle {
		c.close()
	}
}

// owes reports whether an answer that came from the upstream isn't passed on yet. The caller holds the lock.
func (c *conn) owes() bool {
	for _, s := range c.streams {
		if s.owed() {
			return true
		}
	}
	return false
}

// disown tells the client that streams above last aren't handled, ends those, and ignores later ones.
// The GOAWAY is the middle's own or the upstream's.
func (c *conn) disown(last uint32, code http2.ErrCode, debug []byte, own bool) {
	c.mu.Lock()
	c.limit = min(c.limit, last)
	c.sendGoAway(last, code, debug)
	var disowned []*stream
	for id, s := range c.streams {
		if id > last {
			disowned = append(disowned, s)
		}
	}
	c.mu.Unlock()
	for _, s := range disowned {
		s.disown(own)
	}
}

// upstreamGoesAway passes a GOAWAY on. The last stream that the upstream handles becomes that of the client.
func (c *conn) upstreamGoesAway(last uint32, code http2.ErrCode, debug []byte) {
	c.mu.Lock()
	told := c.limit
	if last < math.MaxInt32 {
		told = c.highest
		for id, s := range c.streams {
			if up := s.upstreamID.Load(); up > last && id <= told {
				told = max(id, 2) - 2
			}
		}
	}
	c.mu.Unlock()
	c.disown(told, code, debug, false)
}

// upstreamLost closes the connection, as the upstream did, once every answer that came is passed on.
func (c *conn) upstreamLost() {
	c.mu.Lock()
	c.lost = true
	idle := !c.owes()
	c.mu.Unlock()
	if idle {
		c.close()
	}
}

// ending is that of the calls that end with the connection.
func (c *conn) ending() Ending {
	if c.cut.Load() {
		return Closed
	}
	return GaveUp
}

// gone ends what belongs to the connection when it has ended.
func (c *conn) gone() {
	c.mu.Lock()
	var open []*stream
	for _, s := range c.streams {
		open = append(open, s)
	}
	c.mu.Unlock()
	for _, s := range open {
		s.leave(c.ending(), http2.ErrCodeCancel)
	}
	if c.link != nil {
		c.link.retire()
	}
}

func (c *conn) headers(id uint32, fields []hpack.HeaderField, end bool) {
	if s := c.stream(id); s != nil {
		s.receive(event{kind: headersEvent, fields: fields, end: end})
		return
	}
	c.mu.Lock()
	fresh := id > c.highest && id <= c.limit && !c.lost
	c.highest = max(c.highest, id)
	c.mu.Unlock()
	if fresh {
		c.accept(id, fields, end)
	}
}

// accept starts a call.
func (c *conn) accept(id uint32, fields []hpack.HeaderField, end bool) {
	call := newCall(fields)
	call.Connection = c.number
	plan, record := c.middle.plan(call)
	s := newStream(c, id, plan, record)
	c.windows.open(id)
	c.mu.Lock()
	c.streams[id] = s
	c.mu.Unlock()
	s.start(event{kind: headersEvent, fields: fields, end: end})
}

func (c *conn) data(id uint32, data []byte, end bool) {
	if s := c.stream(id); s != nil {
		s.receive(event{kind: dataEvent, data: data, end: end})
	}
}

func (c *conn) reset(id uint32, code http2.ErrCode) {
	if s := c.stream(id); s != nil {
		s.leave(GaveUp, code)
	}
}

func (c *conn) settings(settings []http2.Setting) {
	if shared := share(settings, http2.SettingMaxHeaderListSize); c.link != nil && len(shared) > 0 {
		c.link.sendSettings(shared...)
	}
}

// ping passes a ping on. A gRPC client measures the bandwidth with pings when it gets data, and a gRPC server closes
// the connection when it gets pings without having sent anything in between. So the middle itself answers pings that
// were caused by its own data, or by data that it kept for a while.
func (c *conn) ping(ack bool, data [8]byte) {
	switch {
	case c.link != nil && (ack || !c.fed.Swap(false) || c.link.heard.Swap(false)):
		c.link.sendPing(ack, data)
	case !ack:
		c.sendPing(true, data)
	}
}

// goAway does nothing: a client that goes away opens no more streams, and closes the connection in the end.
func (c *conn) goAway(uint32, http2.ErrCode, []byte) {}

var (
	_ handler = (*conn)(nil)
	_ handler = (*link)(nil)
)
