package hostile

import (
	"context"
	"sync"
)

// queue is an unbounded queue. Any number of goroutines may push, one may call next.
type queue[T any] struct {
	mu     sync.Mutex
	items  []T
	filled chan struct{}
}

func newQueue[T any]() *queue[T] { return &queue[T]{filled: make(chan struct{}, 1)} }

// push adds an item. It never blocks.
func (q *queue[T]) push(item T) {
	q.mu.Lock()
	q.items = append(q.items, item)
	q.mu.Unlock()
	select {
	case q.filled <- struct{}{}:
	default:
	}
}

// next removes the oldest item, and waits for one. It returns false once the context has ended.
func (q *queue[T]) next(ctx context.Context) (item T, ok bool) {
	for ctx.Err() == nil {
		if item, ok := q.pop(); ok {
			return item, true
		}
		select {
		case <-q.filled:
		case <-ctx.Done():
		}
	}
	return item, false
}

func (q *queue[T]) pop() (item T, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) == 0 {
		return item, false
	}
	var none T
	item, q.items[0] = q.items[0], none
	q.items = q.items[1:]
	return item, true
}

func (q *queue[T]) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items) == 0
}
