package hostile

import (
	"context"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// delivery is one time that a stream's request goes up.
type delivery struct {
	stream  *stream
	index   int
	plan    Delivery
	request *queue[event]

	// ctx ends when the delivery is reset or the middle closes.
	ctx    context.Context
	cancel func()

	// sent is closed when the whole request has gone up, when the upstream answers before that, or when the request
	// will never go up.
	sent     chan struct{}
	sentOnce sync.Once

	// Set when the headers have gone up.
	link     *link
	exchange *exchange

	mu   sync.Mutex
	code http2.ErrCode // of the reset
}

func newDelivery(s *stream, index int, plan Delivery) *delivery {
	d := &delivery{stream: s, index: index, plan: plan, request: newQueue[event](), sent: make(chan struct{})}
	d.ctx, d.cancel = context.WithCancel(s.conn.middle.ctx)
	return d
}

// start lets the request go up. Requests that don't wait go up in the order in which they arrive, as far as they can
// share the link of the client's connection.
func (d *delivery) start(headers event) {
	if !d.plan.waits() {
		d.openOwn(headers)
	}
	d.stream.conn.middle.running.Go(d.run)
}

// reset ends the delivery. If its headers have gone up, the upstream is told.
func (d *delivery) reset(code http2.ErrCode) {
	d.mu.Lock()
	d.code = code
	d.mu.Unlock()
	d.cancel()
}

// run sends the request and waits for the end of the answer.
func (d *delivery) run() {
	defer d.ended()
	if !pause(d.ctx, d.plan.Until, d.plan.Delay) {
		return
	}
	headers, ok := d.request.next(d.ctx)
	if !ok {
		return
	}
	if d.exchange == nil {
		d.openOwn(headers)
	}
	if d.exchange == nil {
		d.openSpare(headers)
	}
	l, x := d.link, d.exchange
	if x == nil {
		d.update(func(r *Delivered) { r.Opened, r.Whole = false, false })
		d.take(event{kind: lostEvent})
		return
	}
	if d.send(l, x, headers.end) {
		d.sentOnce.Do(func() { close(d.sent) })
	}
	select {
	case <-x.ctx.Done():
	case <-d.ctx.Done():
		d.mu.Lock()
		code := d.code
		d.mu.Unlock()
		l.abandon(x, code)
	}
}

// openOwn sends the headers on the link of the client's connection, if that takes them.
func (d *delivery) openOwn(headers event) {
	l := d.stream.conn.link
	if l == nil {
		return
	}
	fields := d.opens(headers)
	if d.exchange = l.open(fields, headers.end, d.take); d.exchange == nil {
		return
	}
	d.link = l
	if d.index == 0 {
		d.stream.upstreamID.Store(d.exchange.id)
	}
}

// openSpare sends the headers on another link.
func (d *delivery) openSpare(headers event) {
	fields := d.opens(headers)
	d.link, d.exchange = d.stream.conn.middle.openSpare(fields, headers.end, d.take)
}

// opens records that the headers go up, and returns them. It is called before, so that no answer can come first.
func (d *delivery) opens(headers event) []hpack.HeaderField {
	d.update(func(r *Delivered) { r.Opened, r.Whole = true, headers.end })
	return without(headers.fields, d.plan.DropMetadata)
}

// send sends the rest of the request. It returns false if the exchange or the delivery ended before.
func (d *delivery) send(l *link, x *exchange, end bool) bool {
	ctx, cancel := context.WithCancel(d.ctx)
	defer cancel()
	defer context.AfterFunc(x.ctx, cancel)()
	for !end {
		e, ok := d.request.next(ctx)
		if !ok {
			break
		}
		if e.kind == headersEvent {
			l.sendHeaders(x.id, e.fields, e.end)
		} else if !l.sendData(ctx, x.id, e.data, e.end) {
			break
		}
		end = e.end
	}
	if end {
		d.update(func(r *Delivered) { r.Whole = true })
	} else if d.ctx.Err() == nil {
		l.sendReset(x.id, http2.ErrCodeCancel) // The upstream answered without waiting for the rest.
	}
	return end
}

// take takes a part of the answer.
func (d *delivery) take(e event) {
	if e.end {
		d.update(func(r *Delivered) { r.Answered, r.GRPCStatus = true, value(e.fields, grpcStatus) })
	}
	d.sentOnce.Do(func() { close(d.sent) })
	if d.index == 0 && d.stream.ctx.Err() == nil {
		d.stream.answer.push(e)
	}
}

func (d *delivery) ended() {
	d.cancel()
	d.sentOnce.Do(func() { close(d.sent) })
	d.update(func(r *Delivered) { r.Ended = true })
}

func (d *delivery) update(change func(*Delivered)) {
	d.stream.update(func(r *Record) { change(&r.Deliveries[d.index]) })
}
