package hostile

import (
	"context"
	"sync"
	"sync/atomic"

	"golang.org/x/net/http2"
)

// stream is a call of a client.
type stream struct {
	conn   *conn
	id     uint32
	plan   Plan
	record *Record

	// ctx ends when the client can't be answered any more.
	ctx    context.Context
	cancel func()

	// deliveries are those of the plan. The answer to the first goes into answer.
	deliveries []*delivery
	answer     *queue[event]

	// whole is closed when the whole request has arrived.
	whole chan struct{}

	// struck says that the client gets something else than the upstream's answer.
	struck atomic.Bool

	// upstreamID is the upstream's number of the stream, if it went up on the connection's own link.
	upstreamID atomic.Uint32

	mu     sync.Mutex
	closed bool // nothing more of the request will arrive

	// Used by respond alone. Withheld are the parts of the upstream's answer that came before the plan's place and were
	// not passed on.
	headersSent bool
	withheld    []event
	repeated    []byte
}

func newStream(c *conn, id uint32, plan Plan, record *Record) *stream {
	s := &stream{conn: c, id: id, plan: plan, record: record, answer: newQueue[event](), whole: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(c.ctx)
	for i, d := range plan.deliveries() {
		s.deliveries = append(s.deliveries, newDelivery(s, i, d))
	}
	return s
}

// start carries the plan out. The request's headers have arrived.
func (s *stream) start(headers event) {
	for _, d := range s.deliveries {
		d.start(headers)
	}
	s.receive(headers)
	s.conn.middle.running.Go(s.respond)
}

// receive takes a part of the request.
func (s *stream) receive(e event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	for _, d := range s.deliveries {
		d.request.push(e)
	}
	if e.end {
		s.closed = true
		close(s.whole)
		s.update(func(r *Record) { r.Arrived = true })
	}
}

// leave ends the call: the client reset its stream, or its connection ended. What the middle told it before stays the
// record's ending.
func (s *stream) leave(ending Ending, code http2.ErrCode) {
	s.stop(code, s.struck.Load())
	s.end(ending, func(r *Record) { r.ErrCode = code })
	s.cancel()
}

// over ends what is left of the call when there is nothing more to do for the client.
func (s *stream) over() {
	if s.end(s.conn.ending(), func(r *Record) { r.ErrCode = http2.ErrCodeCancel }) {
		s.stop(http2.ErrCodeCancel, s.struck.Load()) // The connection ended.
	}
	s.stop(http2.ErrCodeCancel, true)
	s.cancel()
	s.conn.drop(s.id)
}

// disown ends the call for the client, and for it alone. The GOAWAY is the middle's own or the upstream's.
func (s *stream) disown(own bool) {
	s.struck.Store(true)
	s.end(WentAway, func(r *Record) { r.Struck = own })
	s.cancel()
}

// owed reports whether the client will get an answer that has come from the upstream, as soon as it is passed on.
func (s *stream) owed() bool {
	answer := s.plan.Answer
	return s.upstreamID.Load() != 0 && !s.struck.Load() && answer.until == nil && answer.delay == 0
}

// stop takes nothing more of the request. Deliveries that lack a part of it are reset, and so is one that follows the
// client, unless it is spared.
func (s *stream) stop(code http2.ErrCode, spare bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	incomplete := !s.closed
	s.closed = true
	for i, d := range s.deliveries {
		if incomplete || i == 0 && !spare && !d.plan.waits() {
			d.reset(code)
		}
	}
}

// end records how the call ended for the client, unless it has ended already. It is called before the client is told,
// so that what the client does then doesn't count. It returns false if the call had ended before.
func (s *stream) end(ending Ending, more func(*Record)) (first bool) {
	s.update(func(r *Record) {
		if first = r.Ending == Pending; first {
			r.Ending = ending
			more(r)
		}
	})
	return first
}

func (s *stream) update(change func(*Record)) { s.conn.middle.log.update(s.record, change) }
