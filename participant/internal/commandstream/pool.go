package commandstream

import "sync"

// maxIdle is how many goroutines of a pool wait for commands. More end when they have nothing to do.
const maxIdle = 256

// pool executes commands in goroutines that it reuses, since a new goroutine has to grow its stack first. It limits
// nothing: a command never waits for the end of another one. The zero pool is ready for use.
type pool struct {
	mu     sync.Mutex
	queue  []*call // not begun; queue[head:]
	head   int
	idle   []*worker // the last one is woken first, because its stack is warm
	waking bool      // a worker is on its way to the queue
	closed bool
}

type worker struct{ wake chan struct{} }

// run executes calls. It doesn't wait for them.
func (p *pool) run(calls []*call) {
	if len(calls) == 0 {
		return
	}
	p.mu.Lock()
	if p.head > 0 && len(p.queue)+len(calls) > cap(p.queue) {
		n := copy(p.queue, p.queue[p.head:])
		clear(p.queue[n:])
		p.queue, p.head = p.queue[:n], 0
	}
	p.queue = append(p.queue, calls...)
	p.callWorker()
	p.mu.Unlock()
}

// callWorker makes sure that a worker comes for the first call of the queue, if there is one. That worker calls the
// next one before it executes anything. So no call waits for another, and no more workers run than needed.
func (p *pool) callWorker() {
	if p.waking || p.head == len(p.queue) {
		return
	}
	p.waking = true
	if n := len(p.idle); n > 0 {
		w := p.idle[n-1]
		p.idle[n-1], p.idle = nil, p.idle[:n-1]
		w.wake <- struct{}{}
		return
	}
	w := &worker{wake: make(chan struct{}, 1)}
	go p.work(w)
}

// work executes calls until there are enough idle workers. It begins as the one that is waking.
func (p *pool) work(w *worker) {
	var current *call
	defer func() {
		if current != nil { // The handler has ended this goroutine.
			current.abandoned()
		}
	}()
	p.mu.Lock()
	for {
		p.waking = false
		current = p.take()
		p.callWorker()
		for current != nil {
			p.mu.Unlock()
			current.execute()
			p.mu.Lock()
			current = p.take()
			p.callWorker()
		}
		if p.closed || len(p.idle) >= maxIdle {
			p.mu.Unlock()
			return
		}
		p.idle = append(p.idle, w)
		p.mu.Unlock()
		<-w.wake
		p.mu.Lock()
	}
}

// take returns the first call of the queue, or nil.
func (p *pool) take() *call {
	if p.head == len(p.queue) {
		return nil
	}
	c := p.queue[p.head]
	p.queue[p.head] = nil
	if p.head++; p.head == len(p.queue) {
		p.queue, p.head = p.queue[:0], 0
	}
	return c
}

// close ends the workers that are idle, and lets the others end when they have nothing to do.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, w := range p.idle {
		close(w.wake)
	}
	p.idle = nil
}
