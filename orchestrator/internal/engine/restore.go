package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

const (
	// restoreMargin is how long before the backup a participant's clock may have been behind the orchestrator's.
	restoreMargin = 24 * time.Hour

	// restorePoll is how often the participants are looked at until all have answered, and restoreReport how often
	// those that haven't are logged.
	restorePoll   = 200 * time.Millisecond
	restoreReport = 10 * time.Second
)

// Participants are the configured participants, as far as a restored store needs to know them. All methods may be
// called concurrently.
type Participants interface {
	// Participants returns the state of each participant.
	Participants() []ParticipantState

	// ListCommands calls yield for each command that a participant returns, over all pages. It stops at the first
	// error.
	ListCommands(
		ctx context.Context, participant string, request *treatyv1.ListCommandsRequest,
		yield func(*treatyv1.KnownCommand) error,
	) error

	// NameOf returns the name of the participant to which commands for a destination go, or nothing.
	NameOf(to Destination) string
}

// ParticipantState is what is known about a participant.
type ParticipantState struct {
	// Name is its name, the first of its services.
	Name string

	// Described says that the participant was told the store's epoch and has answered, or has said that it can't.
	Described bool

	// Lists says that the participant lists the commands that it knows.
	Lists bool

	// KeptMethods are the methods of which it keeps what became of their commands, sorted.
	KeptMethods []string

	// Problem says why it hasn't answered, for people; empty if nothing is known.
	Problem string
}

// restorer compares a restored store with what the participants know, before any saga continues.
type restorer struct {
	engine       *Engine
	restored     *journal.Restored
	participants []ParticipantState
	untrusted    []string // the participants that can't say what they know
}

func (r *restorer) comparer() *comparer {
	return &comparer{
		catalog: r.engine.config.Catalog, nameOf: r.engine.config.Participants.NameOf,
		// Until now, events were refused.
		backup: r.restored.BackupTime, restore: r.engine.config.now(),
		participants: r.participants, untrusted: r.untrusted,
	}
}

// reconcileStore asks all participants what they know, and records it in the journals of the open sagas. It returns
// false when the engine is stopping.
func (e *Engine) reconcileStore() bool {
	r := &restorer{engine: e, restored: e.config.Store.Identity().Restored}
	if !r.awaitParticipants() {
		return false
	}
	for _, step := range []func(context.Context) error{r.findLost, r.reconcileSagas, e.config.Store.EndRestore} {
		for {
			err := step(e.work.ctx)
			if err == nil {
				break
			}
			e.config.Logger.Error("restoring: comparing the store with its participants failed; trying again",
				"error", err)
			if !e.work.pause(time.Second) {
				return false
			}
		}
	}
	e.config.Logger.Info("restoring: the store was compared with its participants; sagas continue")
	return true
}

// awaitParticipants waits until every participant was told the store's epoch.
func (r *restorer) awaitParticipants() bool {
	var reported time.Time
	for {
		r.participants = r.engine.config.Participants.Participants()
		r.untrusted = nil
		var waiting []string
		for _, p := range r.participants {
			switch {
			case slices.Contains(r.restored.Trusted, p.Name):
			case !p.Described:
				waiting = append(waiting, strings.TrimSpace(p.Name+" "+p.Problem))
			case !p.Lists:
				r.untrusted = append(r.untrusted, p.Name)
			}
		}
		if len(waiting) == 0 {
			r.engine.gate.waitFor(nil)
			return true
		}
		r.engine.gate.waitFor(waiting)
		if now := r.engine.config.now(); now.Sub(reported) >= restoreReport {
			reported = now
			r.engine.config.Logger.Warn("restoring: no saga continues before all participants have answered",
				"waiting_for", waiting)
		}
		if !r.engine.work.pause(restorePoll) {
			return false
		}
	}
}

// lists calls yield for every command that the participants return.
func (r *restorer) lists(
	ctx context.Context, request *treatyv1.ListCommandsRequest, yield func(knownCommand) error,
) error {
	for _, p := range r.participants {
		if !p.Lists {
			continue
		}
		err := r.engine.config.Participants.ListCommands(ctx, p.Name, request, func(c *treatyv1.KnownCommand) error {
			saga, path, ok := wire.ParseStepName(c.GetCommandId())
			if !ok {
				return nil
			}
			return yield(knownCommand{KnownCommand: c, participant: p.Name, saga: saga, path: path})
		})
		if err != nil {
			return fmt.Errorf("listing the commands of participant %s: %w", p.Name, err)
		}
	}
	return nil
}

// findLost stores the sagas that participants know and the store doesn't.
func (r *restorer) findLost(ctx context.Context) error {
	request := &treatyv1.ListCommandsRequest{Since: timestamppb.New(r.restored.BackupTime.Add(-restoreMargin))}
	exists := make(map[string]bool)
	lost := make(map[string]*journal.LostSaga)
	err := r.lists(ctx, request, func(c knownCommand) error {
		known, looked := exists[c.saga]
		if !looked {
			var err error
			if known, err = r.engine.exists(ctx, c.saga); err != nil {
				return err
			}
			exists[c.saga] = known
		}
		if known {
			return nil
		}
		if lost[c.saga] == nil {
			lost[c.saga] = &journal.LostSaga{ID: c.saga, FoundTime: r.engine.config.now()}
		}
		lost[c.saga].Commands = append(lost[c.saga].Commands, c.lost())
		return nil
	})
	if err != nil || len(lost) == 0 {
		return err
	}
	found := make([]journal.LostSaga, 0, len(lost))
	for _, saga := range lost {
		found = append(found, *saga)
	}
	if err := r.engine.config.Store.AddLost(ctx, found); err != nil {
		return fmt.Errorf("storing the lost sagas: %w", err)
	}
	r.engine.lost.add(found)
	r.engine.config.Logger.Error("restoring: participants know sagas that the store doesn't: they were started after "+
		"the backup; start them again with the same request ids, or undo them by hand", "lost", len(found))
	return nil
}

// exists returns whether the store knows a saga, or knew it before it was purged.
func (e *Engine) exists(ctx context.Context, id string) (bool, error) {
	_, err := e.config.Store.Get(ctx, id)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, journal.ErrNotFound):
		return e.config.Store.Purged(ctx, id)
	default:
		return false, err
	}
}

// reconcileSagas records in each open saga's journal what the participants know.
func (r *restorer) reconcileSagas(ctx context.Context) error {
	for after := ""; ; {
		page, err := r.engine.config.Store.Open(ctx,
			journal.OpenParams{After: after, Limit: recoverPage, Which: journal.Unended})
		if err != nil {
			return fmt.Errorf("reading open sagas: %w", err)
		}
		if err := r.reconcilePage(ctx, page); err != nil {
			return err
		}
		if len(page) < recoverPage {
			return nil
		}
		after = page[len(page)-1].Row.ID
	}
}

func (r *restorer) reconcilePage(ctx context.Context, page []*journal.Journal) error {
	if len(page) == 0 {
		return nil
	}
	request := new(treatyv1.ListCommandsRequest)
	for _, stored := range page {
		request.Sagas = append(request.Sagas, wire.SagaName(stored.Row.ID))
	}
	known := make(map[string][]knownCommand)
	if err := r.lists(ctx, request, func(c knownCommand) error {
		known[c.saga] = append(known[c.saga], c)
		return nil
	}); err != nil {
		return err
	}
	for _, stored := range page {
		saga, err := fold(stored)
		if err != nil {
			if errors.Is(err, journal.ErrKey) {
				// With its key, the saga would go on later without having been compared.
				return err
			}
			continue // recovery logs it, and the saga doesn't continue
		}
		record := r.comparer().compare(saga, known[saga.ID])
		if err := r.engine.driver.record(ctx, saga.ID, machine.Restored{Record: record}); err != nil {
			return fmt.Errorf("recording what participants know about %s: %w", wire.SagaName(saga.ID), err)
		}
	}
	return nil
}

// record applies an input to a saga and makes the turn durable, without anything that follows from it.
func (d *driver) record(ctx context.Context, id string, in machine.Input) error {
	inst := newInstance(id)
	if err := d.loader.ensureLoaded(inst, message{input: in, answer: make(chan error, 1)}); err != nil {
		if errors.Is(err, journal.ErrCorrupt) || errors.Is(err, machine.ErrJournal) {
			return nil
		}
		return err
	}
	defer inst.unload()
	out, err := inst.machine.Apply(d.config.now(), in)
	if err != nil || out.Turn == nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return d.writer.write(inst, out)
}
