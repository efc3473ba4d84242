package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Member makes this instance part of a cluster while Run runs. All methods may be called concurrently.
type Member struct {
	config   Config
	failures failureLog
	wake     chan struct{}
	view     atomic.Pointer[View]

	// latest has the latest holding of each shard. Only Run uses it and detector.
	latest   map[int]*Holding
	detector failureDetector
	holders  sync.WaitGroup
}

// New returns a member that does nothing until Run is called. It returns an error if the configuration is wrong.
func New(config Config) (*Member, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("configuring the cluster: %w", err)
	}
	return &Member{
		config:   config,
		failures: failureLog{logger: config.Logger},
		wake:     make(chan struct{}, 1),
		latest:   make(map[int]*Holding),
		detector: failureDetector{gap: config.Renewal},
	}, nil
}

// Wake makes the member look at the directory now. Call it as a hint that something has changed there. It doesn't
// block.
func (m *Member) Wake() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// View returns the directory as the member saw it last: at most Poll ago while the database answers, or Renewal ago if
// it is alone. It is empty before the first look. The caller must not change it.
func (m *Member) View() View {
	if view := m.view.Load(); view != nil {
		return *view
	}
	return View{}
}

// Run joins the cluster and takes part in it until the context ends. Then it hands all shards over and leaves. It
// returns when Lost has returned for all shards. Without a database it tries again, until the context ends. Call it
// once.
func (m *Member) Run(ctx context.Context) {
	var left []string // members that this instance was, which may still be there
	for ctx.Err() == nil {
		s, joined := m.join(ctx, &left)
		if !joined {
			break
		}
		if s.serve(ctx) {
			break
		}
		left = append(left, s.id)
	}
	m.holders.Wait()
	m.leave(context.WithoutCancel(ctx), &left)
}

// join makes this instance a new member, and before that ends what it was before, so that none of its commits lands any
// more. It tries until the context ends, and then returns false.
func (m *Member) join(ctx context.Context, left *[]string) (*session, bool) {
	for ; ctx.Err() == nil; m.pause(ctx, m.config.Renewal/4) {
		if !m.leave(ctx, left) {
			continue
		}
		id := rand.Text()
		begin := m.config.Clock()
		call, cancel := context.WithTimeout(ctx, m.config.Lease)
		shards, err := m.config.Directory.Join(call, Joining{
			Member: id, Address: m.config.Address, Lease: m.config.Lease, Shards: m.config.Shards,
			Lanes: m.config.Lanes,
		})
		cancel()
		if m.failures.report("joining the cluster", err); err != nil {
			*left = append(*left, id) // It may have joined all the same.
			continue
		}
		m.config.Logger.InfoContext(ctx, "joined the cluster", "member", id, "shards", shards)
		return newSession(m, id, begin), true
	}
	return nil, false
}

// leave ends memberships that this instance had, and returns whether none is left.
func (m *Member) leave(ctx context.Context, left *[]string) bool {
	for len(*left) > 0 {
		call, cancel := context.WithTimeout(ctx, m.config.Lease)
		err := m.config.Directory.Leave(call, (*left)[0])
		cancel()
		if m.failures.report("ending a membership that has lost its lease", err); err != nil {
			return false
		}
		*left = (*left)[1:]
	}
	return true
}

// pause waits, or until the context ends.
func (*Member) pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// hold drives a shard until the context ends, after the earlier holding of the same shard.
func (m *Member) hold(ctx context.Context, h, before *Holding) {
	defer m.Wake()
	defer close(h.stopped)
	if before != nil {
		<-before.stopped
	}
	if ctx.Err() != nil {
		return
	}
	if err := m.config.Acquired(ctx, h); err != nil {
		if ctx.Err() == nil {
			m.config.Logger.ErrorContext(ctx, "beginning to drive a shard failed; the shard is given up",
				"shard", h.Shard, "epoch", h.Epoch, "error", err)
			m.pause(ctx, m.config.Renewal)
		}
		return
	}
	<-ctx.Done()
	m.config.Lost(h)
}

// isFenced returns whether an error means that the member isn't one any more.
func isFenced(err error) bool { return errors.Is(err, ErrFenced) }
