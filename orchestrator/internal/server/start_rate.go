package server

import (
	"context"
	"sync"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/admission"
	"github.com/treatyhq/treaty/orchestrator/internal/untrusted"
)

// maxStartRates is how many callers are remembered before those are forgotten that start nothing now.
const maxStartRates = 4096

// startRates limit how many sagas each caller starts per second. The zero startRates limit nothing.
type startRates struct {
	perSecond float64

	mu      sync.Mutex
	callers map[string]*admission.Rate
}

// take counts a start of the caller. It returns an error, and counts nothing, if the caller has started too many. After
// a while without starts, as many as those of a second are allowed at once.
func (r *startRates) take(ctx context.Context) error {
	if r.perSecond <= 0 {
		return nil
	}
	_, caller := callerOf(ctx)
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	rate := r.callers[caller]
	if rate == nil {
		r.forget(now)
		rate = admission.NewRate(r.perSecond, int(r.perSecond))
		r.callers[caller] = rate
	}
	if wait := rate.Wait(now); wait > 0 {
		return limitReached("%s has started as many sagas as a caller may, %v in a second: repeat the call in %v, or "+
			"raise --caller-starts", untrusted.Shorten(caller), r.perSecond, wait.Round(time.Millisecond))
	}
	rate.Take(now)
	return nil
}

// forget makes room for another caller. A caller that is forgotten has nothing to wait for.
func (r *startRates) forget(now time.Time) {
	if r.callers == nil {
		r.callers = make(map[string]*admission.Rate)
	}
	if len(r.callers) < maxStartRates {
		return
	}
	for caller, rate := range r.callers {
		if rate.Idle(now) {
			delete(r.callers, caller)
		}
	}
}
