package engine

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

const (
	// purgeInterval is the time between two purges.
	purgeInterval = time.Minute

	// purgeLimit is how many sagas, or events, are deleted in one transaction, so that no commit waits for long.
	purgeLimit = 200
)

// purger deletes sagas that ended longer ago than their retention, and events older than theirs. It never deletes a
// saga that hasn't ended.
type purger struct {
	store          Store
	clock          *purgeClock
	work           *work
	logger         *slog.Logger
	retention      map[string]time.Duration // of sagas, by definition
	childRetention time.Duration            // of children of other orchestrators' sagas; 0 means forever
	idRetention    time.Duration            // of the ids of purged sagas; 0 means forever
	eventRetention time.Duration            // 0 means forever
	catalog        *contract.Catalog
	definitions    []string // that the engine runs

	eventIDRetention time.Duration // of the ids of events, after the events
	participants     Participants  // may be nil

	mu      sync.Mutex
	timer   *time.Timer
	stopped bool
}

// keepsAll returns whether everything is kept forever.
func (p *purger) keepsAll() bool {
	return len(p.retention) == 0 && p.childRetention <= 0 && p.eventRetention <= 0 && p.idRetention <= 0
}

// load reads when the store was last written to, as far as its sagas tell, so that the purger notices a clock that was
// set ahead before the process began.
func (p *purger) load(ctx context.Context) error {
	if p.keepsAll() {
		return nil
	}
	newest, err := p.store.List(ctx, journal.ListParams{
		Order: journal.Order{By: journal.OrderByUpdateTime, Descending: true}, Limit: 1,
	})
	if err != nil {
		return fmt.Errorf("reading when the newest saga was updated: %w", err)
	}
	if len(newest) > 0 {
		p.clock.beginAt(newest[0].UpdateTime)
	}
	return nil
}

// start schedules the next purge, unless everything is kept forever.
func (p *purger) start() {
	if p.keepsAll() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return
	}
	p.timer = time.AfterFunc(purgeInterval, func() {
		if !p.work.Enter() {
			return
		}
		defer p.work.Leave()
		p.purge(p.work.ctx)
		p.start()
	})
}

// close prevents further purges.
func (p *purger) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	if p.timer != nil {
		p.timer.Stop()
	}
}

// purge deletes all that is older than its retention.
func (p *purger) purge(ctx context.Context) {
	now := p.clock.now()
	type kept struct {
		retention time.Duration
		except    string
	}
	byRetention := make(map[kept][]string)
	for definition, retention := range p.retention {
		key := kept{retention: retention, except: p.except(definition)}
		byRetention[key] = append(byRetention[key], definition)
	}
	for key, definitions := range byRetention {
		p.repeat("sagas", func() (int, error) {
			return p.store.Purge(ctx, journal.PurgeParams{
				Definitions: definitions, EndedBefore: now.Add(-key.retention), ExceptPrefix: key.except,
				Remember: isDerivedID, Limit: purgeLimit,
			})
		})
	}
	if p.childRetention > 0 {
		p.repeat("children of other orchestrators' sagas", func() (int, error) {
			return p.store.Purge(ctx, journal.PurgeParams{
				Definitions: p.definitions, EndedBefore: now.Add(-p.childRetention), Compensated: true,
				Remember: isDerivedID, Limit: purgeLimit,
			})
		})
	}
	if before := p.forgettable(ctx, now); !before.IsZero() {
		p.repeat("the ids of sagas", func() (int, error) { return p.store.PurgeIDs(ctx, before, purgeLimit) })
	}
	if p.eventRetention > 0 {
		p.repeat("events", func() (int, error) {
			return p.store.PurgeEvents(ctx, now.Add(-p.eventRetention), purgeLimit)
		})
		p.repeat("the ids of events", func() (int, error) {
			return p.store.PurgeEventIDs(ctx, now.Add(-p.eventRetention-p.eventIDRetention), purgeLimit)
		})
	}
}

// except returns the prefix of ids of sagas of a definition that are kept. Stores of earlier versions don't say of a
// child whether its parent may compensate it. So where that may be, all ids that look like a child's are kept, unless
// the store says that they go with their parents.
func (p *purger) except(definition string) string {
	saga, known := p.catalog.SagaDefinition(definition)
	if known && saga.Kind == treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE {
		return idFromParent
	}
	return ""
}

// forgettable returns the time before which a purged saga must have ended, so that its id needn't be kept any more, or
// zero if all ids are kept. All participants must have been told a horizon after the saga's end: then they know that no
// command of it is sent any more. A participant that was told none keeps all ids.
func (p *purger) forgettable(ctx context.Context, now time.Time) time.Time {
	if p.idRetention <= 0 || p.participants == nil {
		return time.Time{}
	}
	known, err := p.store.Participants(ctx)
	if err != nil {
		p.logger.Error("reading which horizons participants were told failed; trying again in a minute", "error", err)
		return time.Time{}
	}
	told := make(map[string]time.Time, len(known))
	for _, participant := range known {
		told[participant.Service] = participant.Horizon
	}
	before := now.Add(-p.idRetention)
	for _, participant := range p.participants.Participants() {
		if horizon := told[participant.Name]; horizon.Before(before) {
			before = horizon
		}
	}
	return before
}

// repeat deletes in small transactions until nothing is left to delete.
func (p *purger) repeat(what string, purge func() (int, error)) {
	total := 0
	for !p.work.Closed() {
		n, err := purge()
		total += n
		if err != nil {
			p.logger.Error("purging failed; trying again in a minute", "what", what, "error", err)
			return
		}
		if n < purgeLimit {
			break
		}
	}
	if total > 0 {
		p.logger.Info("purged", "what", what, "count", total)
	}
}
