package engine

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// ErrReplaced says that another store has taken over the sagas of this store's scope, so that this one drives none.
// Nothing was recorded. An operator has to find out which of the two is right.
var ErrReplaced = errors.New("another store has taken over")

// ErrEpochAhead says that the store's epoch is more than a day ahead of the clock, which participants don't believe, so
// that no saga is driven. Nothing was recorded.
var ErrEpochAhead = errors.New("the store's epoch is more than a day ahead of this machine's clock")

// ErrRestoring says that the store was restored from a backup, and that the participants haven't said yet what they
// know. Nothing was recorded.
var ErrRestoring = errors.New("the store was restored from a backup, and waits for its participants")

// gate says whether sagas may be driven. It is open unless the store was replaced, another process has taken over its
// sagas, or it is being compared with its participants after a restore. All methods may be called concurrently.
type gate struct {
	store  Store
	valid  func() bool // see Config.Valid
	work   *work
	logger *slog.Logger

	changed func(condition error)

	restoring atomic.Pointer[error] // ErrRestoring, with the participants that it waits for; or nil
	cause     atomic.Pointer[error] // why no saga will be driven: ErrReplaced or ErrEpochAhead; or nil

	mu      sync.Mutex
	heard   *laterStore // nil if nothing was heard since the store was opened
	storing bool        // a goroutine stores heard
}

// laterStore is what was heard of a store that has taken over.
type laterStore struct {
	cause string // the first one
	epoch uint64 // the highest one, or 0
}

// closed returns whether no saga may be driven.
func (g *gate) closed() bool { return g.cause.Load() != nil || g.restoring.Load() != nil || !g.valid() }

// err returns why no saga may be driven: ErrReplaced, ErrEpochAhead, ErrRestoring or journal.ErrFenced. It returns nil
// if the gate is open.
func (g *gate) err() error {
	if !g.valid() {
		return journal.ErrFenced
	}
	if cause := g.cause.Load(); cause != nil {
		return *cause
	}
	if restoring := g.restoring.Load(); restoring != nil {
		return *restoring
	}
	return nil
}

// open opens the gate, or not, as the store's identity says.
func (g *gate) open(identity journal.Identity) {
	switch {
	case identity.Replaced != "":
		g.stop(identity.Replaced)
	case identity.EpochAhead:
		err := ErrEpochAhead
		g.cause.Store(&err)
		g.logger.Error("this store drives no saga, since its epoch is more than a day ahead of this machine's clock, " +
			"which participants don't believe: correct the clock and start again, or use the subcommand restore with " +
			"--epoch-from-clock and --since")
		g.changed(err)
	case identity.Restored != nil:
		g.waitFor(nil)
	default:
		g.changed(nil)
	}
}

// waitFor closes the gate of a restored store, and says for which participants it waits.
func (g *gate) waitFor(participants []string) {
	err := ErrRestoring
	if len(participants) > 0 {
		err = fmt.Errorf("%w: %s", ErrRestoring, strings.Join(participants, "; "))
	}
	if before := g.restoring.Swap(&err); before == nil || (*before).Error() != err.Error() {
		g.changed(g.err())
	}
}

// restored opens the gate of a restored store, unless the store was replaced in the meantime.
func (g *gate) restored() {
	g.restoring.Store(nil)
	g.changed(g.err())
}

// stop closes the gate for good.
func (g *gate) stop(cause string) {
	err := fmt.Errorf("%w: %s", ErrReplaced, cause)
	if !g.cause.CompareAndSwap(nil, &err) {
		return
	}
	g.logger.Error("this store was replaced, so it drives no saga any more: if it is the right one, stop the other "+
		"orchestrator and use the subcommand restore on this store; if not, remove it", "cause", cause)
	g.changed(err)
}

// replaced closes the gate for good and stores that, so that it holds after a restart. It stores the highest epoch of
// all calls, since a restored store must begin above it. It returns at once.
func (g *gate) replaced(cause string, epoch uint64) {
	g.stop(cause)
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.heard == nil:
		g.heard = &laterStore{cause: cause, epoch: epoch}
	case epoch > g.heard.epoch:
		g.heard.epoch = epoch
	default:
		return
	}
	if !g.storing {
		g.storing = g.work.spawn(g.remember)
	}
}

// remember stores what was heard, until nothing is new.
func (g *gate) remember() {
	for {
		g.mu.Lock()
		heard := *g.heard
		g.mu.Unlock()
		err := g.store.MarkReplaced(g.work.ctx, heard.cause, heard.epoch)
		g.mu.Lock()
		if err == nil && *g.heard == heard {
			g.storing = false
			g.mu.Unlock()
			return
		}
		g.mu.Unlock()
		if err == nil {
			continue
		}
		g.logger.Error("storing that the store was replaced failed; trying again", "error", err)
		if !g.work.pause(time.Second) {
			return
		}
	}
}

// Replaced says that another store has taken over the sagas of this store's scope. No saga is driven from now on, also
// after a restart. epoch is the one that a participant has heard from that store, or 0. Replaced may be called more
// than once; the first cause stays, and so does the highest epoch.
func (e *Engine) Replaced(cause string, epoch uint64) { e.gate.replaced(cause, epoch) }

// Condition returns ErrReplaced, ErrEpochAhead, ErrRestoring or journal.ErrFenced while no saga is driven, and nil
// otherwise.
func (e *Engine) Condition() error { return e.gate.err() }
