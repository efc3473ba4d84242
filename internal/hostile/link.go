package hostile

import (
	"context"
	"fmt"
	"math"
	"net"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// eventKind is what happened to an answer.
type eventKind int

const (
	headersEvent eventKind = iota
	dataEvent
	resetEvent
	lostEvent
)

// event is a part of a request or of an answer.
type event struct {
	kind   eventKind
	fields []hpack.HeaderField
	data   []byte
	code   http2.ErrCode

	// end says that nothing follows.
	end bool
}

// last reports whether nothing follows.
func (e event) last() bool { return e.end || e.kind == resetEvent || e.kind == lostEvent }

// exchange is one stream of a link: a request that goes up, and its answer.
type exchange struct {
	id uint32

	// ctx ends when the upstream has answered or reset the stream, or the link is lost.
	ctx    context.Context
	cancel func()

	// answer gets the upstream's events. It must not block.
	answer func(event)
}

// link is a connection with the upstream. Its methods are safe for concurrent use.
type link struct {
	*side
	ready chan struct{}

	// heard says that the upstream has sent a part of an answer since the last ping of the client, and its answer.
	heard atomic.Bool

	mu        sync.Mutex
	client    *conn // the connection that it is the other end of, or nil
	next      uint32
	limit     uint32
	exchanges map[uint32]*exchange
	draining  bool
	retired   bool
	greeted   bool
	told      []http2.Setting
}

// connect opens a connection with the upstream, and waits for the upstream's first frame.
func (m *Middle) connect() (*link, error) {
	ctx, cancel := context.WithTimeout(m.ctx, m.options.DialTimeout)
	defer cancel()
	var dialer net.Dialer
	raw, err := dialer.DialContext(ctx, "tcp", m.upstream)
	if err != nil {
		return nil, fmt.Errorf("connect the middle with its upstream: %w", err)
	}
	l := &link{side: newSide(m.ctx, raw), ready: make(chan struct{}), next: 1, limit: math.MaxUint32,
		exchanges: make(map[uint32]*exchange)}
	l.frames.push(func() error {
		_, err := l.buffer.WriteString(http2.ClientPreface)
		return err
	})
	l.greet(http2.Setting{ID: http2.SettingEnablePush, Val: 0})
	m.running.Go(l.write)
	m.running.Go(func() {
		l.read(l)
		l.lose()
	})
	select {
	case <-l.ready:
		return l, nil
	case <-l.ctx.Done():
		return nil, fmt.Errorf("connect the middle with its upstream %s: it closed the connection", m.upstream)
	case <-ctx.Done():
		l.hangUp()
		return nil, fmt.Errorf("connect the middle with its upstream %s: no HTTP/2 settings came in %v: %w", m.upstream,
			m.options.DialTimeout, context.Cause(ctx))
	}
}

// open starts an exchange. It returns nil if the link takes no more, because it ends or has as many as the upstream
// allows.
func (l *link) open(fields []hpack.HeaderField, end bool, answer func(event)) *exchange {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.draining || l.ctx.Err() != nil || int64(len(l.exchanges)) >= int64(l.limit) {
		return nil
	}
	x := &exchange{id: l.next, answer: answer}
	x.ctx, x.cancel = context.WithCancel(l.ctx)
	l.next += 2
	l.exchanges[x.id] = x
	l.windows.open(x.id)
	l.sendHeaders(x.id, fields, end)
	return x
}

// abandon resets an exchange that hasn't ended.
func (l *link) abandon(x *exchange, code http2.ErrCode) {
	if l.take(x.id, true) != nil {
		l.sendReset(x.id, code)
		x.cancel()
		l.leave()
	}
}

// take returns an exchange, or nil if it has ended, and removes it when it ends.
func (l *link) take(id uint32, ends bool) *exchange {
	l.mu.Lock()
	defer l.mu.Unlock()
	x := l.exchanges[id]
	if x != nil && ends {
		delete(l.exchanges, id)
		l.windows.shut(id)
	}
	return x
}

// deliver hands an event to its exchange.
func (l *link) deliver(id uint32, e event) {
	x := l.take(id, e.last())
	if x == nil {
		return
	}
	x.answer(e)
	if e.last() {
		x.cancel()
		l.leave()
	}
}

// retire closes the link once its exchanges have ended. It takes no new ones.
func (l *link) retire() {
	l.mu.Lock()
	l.draining, l.retired, l.client = true, true, nil
	l.mu.Unlock()
	l.leave()
}

// leave closes a retired link without exchanges.
func (l *link) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.retired && len(l.exchanges) == 0 {
		l.hangUpSoon()
	}
}

// lose ends the exchanges of a link that the upstream closed.
func (l *link) lose() {
	l.mu.Lock()
	exchanges, client := l.exchanges, l.client
	l.exchanges, l.draining = nil, true
	l.mu.Unlock()
	for _, x := range exchanges {
		x.answer(event{kind: lostEvent})
		x.cancel()
	}
	if client != nil {
		client.upstreamLost()
	}
}

// attach makes the link the other end of a client's connection, and greets the client with the upstream's settings.
// From now on, they share pings, GOAWAY and settings. It returns false if the upstream has closed the link already.
func (l *link) attach(client *conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.draining {
		return false
	}
	l.client = client
	client.greet(l.told...)
	return true
}

func (l *link) other() *conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.client
}

func (l *link) headers(id uint32, fields []hpack.HeaderField, end bool) {
	l.heard.Store(true)
	l.deliver(id, event{kind: headersEvent, fields: fields, end: end})
}

func (l *link) data(id uint32, data []byte, end bool) {
	l.heard.Store(true)
	l.deliver(id, event{kind: dataEvent, data: data, end: end})
}

func (l *link) reset(id uint32, code http2.ErrCode) {
	l.deliver(id, event{kind: resetEvent, code: code})
}

func (l *link) settings(settings []http2.Setting) {
	l.mu.Lock()
	for _, setting := range settings {
		if setting.ID == http2.SettingMaxConcurrentStreams {
			l.limit = setting.Val
		}
	}
	shared := share(settings, http2.SettingMaxConcurrentStreams, http2.SettingMaxHeaderListSize)
	l.told = append(l.told, shared...)
	client, first := l.client, !l.greeted
	l.greeted = true
	l.mu.Unlock()
	if first {
		close(l.ready)
	}
	if client != nil && len(shared) > 0 {
		client.sendSettings(shared...)
	}
}

func (l *link) ping(ack bool, data [8]byte) {
	if ack {
		l.heard.Store(false)
	}
	if client := l.other(); client != nil {
		client.sendPing(ack, data)
	} else if !ack {
		l.sendPing(true, data)
	}
}

func (l *link) goAway(last uint32, code http2.ErrCode, debug []byte) {
	client := l.other()
	if client == nil {
		l.retire()
		return
	}
	if last < math.MaxInt32 { // Otherwise it only announces that it will go away.
		l.mu.Lock()
		l.draining = true
		l.mu.Unlock()
	}
	client.upstreamGoesAway(last, code, debug)
}

// share returns the settings that matter to the other end.
func share(settings []http2.Setting, ids ...http2.SettingID) []http2.Setting {
	var shared []http2.Setting
	for _, setting := range settings {
		if slices.Contains(ids, setting.ID) {
			shared = append(shared, setting)
		}
	}
	return shared
}

// openSpare starts an exchange on a link of no client, for what can't go up on the link of its own client. It connects
// if no link takes more.
func (m *Middle) openSpare(fields []hpack.HeaderField, end bool, answer func(event)) (*link, *exchange) {
	m.spareMu.Lock()
	defer m.spareMu.Unlock()
	m.spare = slices.DeleteFunc(m.spare, func(l *link) bool { return l.ctx.Err() != nil })
	for _, l := range m.spare {
		if x := l.open(fields, end, answer); x != nil {
			return l, x
		}
	}
	l, err := m.connect()
	if err != nil {
		return nil, nil
	}
	m.spare = append(m.spare, l)
	return l, l.open(fields, end, answer)
}
