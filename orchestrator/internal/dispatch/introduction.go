package dispatch

import (
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// introduction is what a participant has said about itself. Commands wait until it was asked for the first time, on
// behalf of every scope, so that a store that was replaced finds that out before it sends one.
type introduction struct {
	participant *participant
	logger      *slog.Logger
	rand        func() float64
	absentAfter time.Duration // see the constant

	// open is set when commands may be sent.
	open atomic.Bool

	// absent is set once it was logged that there is no first connection.
	absent atomic.Bool

	mu          sync.Mutex
	waiting     waitlist
	asking      map[*greeting]struct{}     // on behalf of whom commands wait
	description *treatyv1.DescribeResponse // the last one; nil if it never answered
	problem     string                     // why it hasn't answered the last time
	warned      string                     // the last problem that was logged
}

func newIntroduction(p *participant, logger *slog.Logger, rand func() float64) *introduction {
	i := &introduction{participant: p, logger: logger, rand: rand, asking: make(map[*greeting]struct{})}
	i.open.Store(true)
	return i
}

// hold lets commands wait until the participant was asked on behalf of a scope.
func (i *introduction) hold(g *greeting) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.asking[g] = struct{}{}
	i.open.Store(false)
}

// release no longer lets commands wait because of a scope.
func (i *introduction) release(g *greeting) {
	i.mu.Lock()
	delete(i.asking, g)
	var woken waitlist
	if len(i.asking) == 0 {
		i.open.Store(true)
		woken = i.waiting.take(i.waiting.len)
	}
	i.mu.Unlock()
	woken.wakeAll()
}

// wait returns false when commands may be sent. Otherwise it returns true, and wake is called when they may. cancel
// removes wake.
func (i *introduction) wait(wake func()) (cancel func(), waiting bool) {
	if i.open.Load() {
		return nil, false
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.open.Load() {
		return nil, false
	}
	w := i.waiting.add(wake)
	return func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.waiting.remove(w)
	}, true
}

// close forgets those who wait.
func (i *introduction) close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.waiting = waitlist{}
}

// described returns what the participant has said about itself, or nil.
func (i *introduction) described() *treatyv1.DescribeResponse {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.description
}

// has returns whether the participant has said that it has a feature.
func (i *introduction) has(feature treatyv1.ParticipantFeature) bool {
	return slices.Contains(i.described().GetFeatures(), feature)
}

// lastProblem returns why the participant hasn't said what it is, or "".
func (i *introduction) lastProblem() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.problem
}
