package cluster

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// marginParts is the part of a lease, one of so many, that its owner doesn't use. It covers clocks of different speed,
// and the way from a look at the lease to the network.
const marginParts = 20

// renewalsInFlight is how many renewals of one member may be under way, so that neither a broken connection nor a slow
// database alone ends the lease.
const renewalsInFlight = 3

// session is one membership of this instance, from its joining to its end.
type session struct {
	*Member

	id       string
	lease    lease
	holdings map[int]*Holding
}

func newSession(m *Member, id string, begin time.Duration) *session {
	s := &session{Member: m, id: id, holdings: make(map[int]*Holding)}
	s.lease.clock = m.config.Clock
	s.extend(begin)
	return s
}

// extend counts the lease from the moment before its renewal was sent.
func (s *session) extend(sent time.Duration) {
	s.lease.extend(sent + s.config.Lease - s.config.Lease/marginParts)
}

// serve takes part in the cluster until the lease is lost, or until stop ends and everything is handed over. Then it
// returns true.
func (s *session) serve(stop context.Context) (handedOver bool) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(stop))
	var keepers sync.WaitGroup
	defer keepers.Wait()
	defer cancel()
	keepers.Go(func() { s.renew(ctx) })
	keepers.Go(func() {
		s.awaitExpiry(ctx)
		cancel() // Lost is called for all shards.
	})

	timer := time.NewTimer(0)
	defer timer.Stop()
	stopping := stop.Done()
	for ctx.Err() == nil && s.lease.expire() > 0 {
		if stop.Err() != nil {
			stopping = nil
			handedOver = s.handOver(ctx)
		} else {
			s.balance(ctx)
		}
		if handedOver {
			return true
		}
		timer.Reset(s.interval())
		select {
		case <-ctx.Done():
		case <-stopping:
		case <-s.wake:
		case <-timer.C:
		}
	}
	s.config.Logger.Warn("lost the lease; all shards are given up", "member", s.id)
	return false
}

// interval returns how long to wait until the next look. A member that is alone has nobody to take shards from.
func (s *session) interval() time.Duration {
	if view := s.view.Load(); view != nil && len(view.Members) == 1 {
		return s.config.Renewal
	}
	return s.config.Poll
}

// renew renews the lease until the context ends. It doesn't wait for an answer before it sends the next renewal.
func (s *session) renew(ctx context.Context) {
	inFlight := make(chan struct{}, renewalsInFlight)
	failed := make(chan struct{}, 1)
	timer := time.NewTimer(s.config.Renewal)
	defer timer.Stop()
	var renewals sync.WaitGroup
	defer renewals.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-failed:
			timer.Reset(s.config.Renewal / 4)
			continue
		case <-timer.C:
		}
		timer.Reset(s.config.Renewal)
		select {
		case inFlight <- struct{}{}:
		default:
			continue
		}
		renewals.Go(func() {
			defer func() { <-inFlight }()
			if s.renewOnce(ctx) != nil {
				select {
				case failed <- struct{}{}:
				default:
				}
			}
		})
	}
}

func (s *session) renewOnce(ctx context.Context) error {
	sent := s.config.Clock()
	call, cancel := context.WithTimeout(ctx, s.config.Lease)
	defer cancel()
	err := s.config.Directory.Renew(call, s.id)
	s.failures.report("renewing the lease", err)
	switch {
	case err == nil:
		s.extend(sent)
	case isFenced(err):
		s.lease.end()
		s.Wake()
	}
	return err
}

// awaitExpiry returns when the lease or the context has ended. It looks at the clock more often than the lease's length
// demands, since timers stand still while the machine sleeps.
func (s *session) awaitExpiry(ctx context.Context) {
	for ctx.Err() == nil {
		remaining := s.lease.expire()
		if remaining == 0 {
			return
		}
		s.pause(ctx, min(remaining, s.config.Poll))
	}
}

// balance makes one step towards the state in which every member owns its share.
func (s *session) balance(ctx context.Context) {
	view, looked := s.look(ctx)
	if !looked {
		return
	}
	s.giveUp(ctx, view)
	target := share(view, s.id)
	active := s.active()
	for ; len(active) > target; active = active[:len(active)-1] {
		active[len(active)-1].cancel()
	}
	if limit := min(target-len(active), countFree(view)); limit > 0 {
		s.claim(ctx, limit)
	}
}

// handOver makes one step towards the state in which this member owns nothing, and returns whether it has left.
func (s *session) handOver(ctx context.Context) bool {
	view, looked := s.look(ctx)
	if !looked {
		return false
	}
	if me, _ := view.Member(s.id); !me.Leaving {
		err := s.call(ctx, "retiring from the cluster", func(ctx context.Context) error {
			return s.config.Directory.Retire(ctx, s.id)
		})
		if err != nil {
			return false
		}
	}
	for _, h := range s.active() {
		h.cancel()
	}
	s.giveUp(ctx, view)
	if len(s.holdings) > 0 {
		return false
	}
	err := s.call(ctx, "leaving the cluster", func(ctx context.Context) error {
		return s.config.Directory.Leave(ctx, s.id)
	})
	return err == nil
}

// look reads the directory, fences members that have crashed, and ends holdings that aren't this member's any more. It
// returns false if the directory can't be read, or if this member was fenced.
func (s *session) look(ctx context.Context) (*View, bool) {
	var view View
	asked := s.config.Clock()
	err := s.call(ctx, "reading the directory of the cluster", func(ctx context.Context) (err error) {
		view, err = s.config.Directory.List(ctx)
		return err
	})
	if err != nil {
		return nil, false
	}
	answered := s.config.Clock()
	if _, member := view.Member(s.id); !member {
		s.lease.end()
		return nil, false
	}
	for _, suspect := range s.detector.look(&view, asked, answered) {
		if suspect.Member != s.id {
			s.fence(ctx, &view, suspect)
		}
	}
	for shard, h := range s.holdings {
		if current := view.shard(shard); current.Owner != s.id || current.Epoch != h.Epoch {
			s.config.Logger.Warn("a shard has another owner; it isn't driven here any more", "shard", shard,
				"epoch", h.Epoch, "owner", current.Owner, "owner_epoch", current.Epoch)
			h.lose()
			delete(s.holdings, shard)
		}
	}
	s.view.Store(&view)
	return &view, true
}

// fence removes a member that has crashed from the directory and the view.
func (s *session) fence(ctx context.Context, view *View, suspect Suspect) {
	var fenced bool
	err := s.call(ctx, "fencing a member that has crashed", func(ctx context.Context) (err error) {
		fenced, err = s.config.Directory.Fence(ctx, suspect)
		return err
	})
	if err == nil && fenced {
		s.config.Logger.Warn("fenced a member that didn't renew its lease", "member", suspect.Member)
		view.Members = slices.DeleteFunc(view.Members, func(m MemberInfo) bool { return m.ID == suspect.Member })
	}
}

// active returns the holdings that aren't being given up, in the order of their shards.
func (s *session) active() []*Holding {
	var active []*Holding
	for _, h := range s.holdings {
		if h.context.Err() == nil && !h.isStopped() {
			active = append(active, h)
		}
	}
	slices.SortFunc(active, func(a, b *Holding) int { return cmp.Compare(a.Shard, b.Shard) })
	return active
}

// giveUp gives up the shards that this member owns in the view and doesn't drive. Those that it never drove come from a
// claim whose answer was lost.
func (s *session) giveUp(ctx context.Context, view *View) {
	var shards []ShardEpoch
	for _, shard := range view.Shards {
		if shard.Owner != s.id {
			continue
		}
		h := s.holdings[shard.Shard]
		if h == nil || h.isStopped() {
			shards = append(shards, shard.ShardEpoch)
		}
	}
	if len(shards) == 0 {
		return
	}
	for _, shard := range shards {
		if h := s.holdings[shard.Shard]; h != nil {
			h.lose()
		}
	}
	err := s.call(ctx, "handing over shards", func(ctx context.Context) error {
		return s.config.Directory.GiveUp(ctx, s.id, shards)
	})
	if err != nil {
		return
	}
	for _, shard := range shards {
		delete(s.holdings, shard.Shard)
	}
}

// claim takes free shards and begins to drive them.
func (s *session) claim(ctx context.Context, limit int) {
	var claims []Claim
	err := s.call(ctx, "claiming shards", func(ctx context.Context) (err error) {
		claims, err = s.config.Directory.Claim(ctx, s.id, limit)
		return err
	})
	if err != nil {
		return
	}
	for _, claim := range claims {
		held, cancel := context.WithCancel(ctx)
		h := &Holding{
			Claim: claim, Member: s.id, lease: &s.lease, wake: s.Wake, stopped: make(chan struct{}),
			context: held, cancel: cancel,
		}
		before := s.latest[claim.Shard]
		s.latest[claim.Shard], s.holdings[claim.Shard] = h, h
		s.holders.Go(func() { s.hold(held, h, before) })
	}
}

// call makes a call to the directory, reports its failure, and ends the lease if the member was fenced.
func (s *session) call(ctx context.Context, doing string, f func(context.Context) error) error {
	call, cancel := context.WithTimeout(ctx, s.config.Lease)
	defer cancel()
	err := f(call)
	s.failures.report(doing, err)
	if isFenced(err) {
		s.lease.end()
	}
	return err
}
