package engine

import (
	"context"
	"sync"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

const (
	// purgeEvery is how often the store is relieved of what is no longer kept.
	purgeEvery = time.Minute

	// purgeAtOnce is how many sagas, or events, are deleted in one transaction, so that no commit waits for long.
	purgeAtOnce = 200
)

// purger deletes sagas that ended longer ago than they are to be kept, and events. It never touches a saga that hasn't ended.
type purger struct {
	mu      sync.Mutex
	stop    func() bool
	stopped bool
}

func (p *purger) begin(e *Engine) {
	if len(e.config.Retention) == 0 && e.config.EventRetention <= 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return
	}
	p.stop = e.config.Clock.AfterFunc(purgeEvery, func() {
		if !e.enter() {
			return
		}
		defer e.leave()
		e.purge(e.ctx)
		p.begin(e)
	})
}

func (p *purger) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	if p.stop != nil {
		p.stop()
	}
}

// purge deletes all that is no longer kept.
func (e *Engine) purge(ctx context.Context) {
	now := e.config.Clock.Now()
	byTime := make(map[time.Duration][]string)
	for definition, kept := range e.config.Retention {
		byTime[kept] = append(byTime[kept], definition)
	}
	for kept, definitions := range byTime {
		e.purgeAll("sagas", func() (int, error) {
			return e.config.Store.Purge(ctx, journal.PurgeParams{Definitions: definitions, EndedBefore: now.Add(-kept), Remember: derived, Limit: purgeAtOnce})
		})
	}
	if e.config.EventRetention > 0 {
		e.purgeAll("events", func() (int, error) {
			return e.config.Store.PurgeEvents(ctx, now.Add(-e.config.EventRetention), purgeAtOnce)
		})
	}
}

func (e *Engine) purgeAll(what string, purge func() (int, error)) {
	total := 0
	for !e.stopping.Load() {
		n, err := purge()
		total += n
		if err != nil {
			e.config.Logger.Error("deleting what is no longer kept; trying again later", "what", what, "error", err)
			return
		}
		if n < purgeAtOnce {
			break
		}
	}
	if total > 0 {
		e.config.Logger.Info("deleted what is no longer kept", "what", what, "number", total)
	}
}
