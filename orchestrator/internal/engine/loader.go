package engine

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// loader makes machines and saga views of stored journals.
type loader struct {
	config   *Config
	work     *work
	watchdog *watchdog
	replies  *replyEvents
	misused  func(saga, message string) // called when code used its Context on another goroutine

	common machine.Config // of all sagas

	failures repeated
	damaged  damagedSagas
}

func newLoader(config *Config, work *work, watchdog *watchdog, replies *replyEvents) *loader {
	return &loader{
		config: config, work: work, watchdog: watchdog, replies: replies,
		common: machine.Config{
			Local: config.Local, Command: config.Catalog.Command, Environment: config.Logger,
			Event: config.Catalog.EventType, Publishable: replies.check,
		},
	}
}

// ensureLoaded loads the machine of an instance, unless it is loaded or the message starts the saga.
func (l *loader) ensureLoaded(inst *instance, m message) error {
	if inst.machine != nil {
		return nil
	}
	if _, starts := m.input.(machine.Start); starts {
		return nil
	}
	stored, err := l.config.Store.Load(l.work.ctx, inst.id)
	if err == nil {
		return l.replay(inst, stored)
	}
	if errors.Is(err, journal.ErrCorrupt) {
		l.damaged.add(inst.id, err)
	}
	switch {
	case errors.Is(err, journal.ErrNotFound), errors.Is(err, journal.ErrCorrupt), errors.Is(err, journal.ErrKey),
		errors.Is(err, journal.ErrElsewhere):
		return fmt.Errorf("loading saga %s: %w", inst.id, err)
	case m.answer != nil:
		return fmt.Errorf("loading saga %s: %w", inst.id, err)
	}
	// Nobody waits for an answer, so nobody would repeat the input: it must not be lost.
	if leftOut, due := l.failures.due(); due {
		l.config.Logger.Error("loading a saga failed; trying again", "saga", inst.name, "error", err,
			"left_out", leftOut)
	}
	return ErrInDoubt
}

// replay makes the machine of an instance from its stored journal.
func (l *loader) replay(inst *instance, stored *journal.Journal) error {
	if stored.Err != nil {
		if !errors.Is(stored.Err, journal.ErrKey) {
			l.unreadable(inst.id, stored.Err)
		}
		return fmt.Errorf("reading saga %s: %w", inst.id, stored.Err)
	}
	definition := stored.Row.Definition
	if !needsCode(&stored.Row) {
		definition = ""
	}
	m := l.newMachine(inst, definition, truncatedTurns(stored))
	for _, turn := range stored.Turns {
		if err := replayTurn(m, turn); err != nil {
			m.Close()
			l.unreadable(inst.id, err)
			return err
		}
	}
	if inst.code.wasCut.Load() {
		m.Close()
		return ErrStopping
	}
	l.damaged.remove(inst.id)
	inst.machine, inst.stored = m, storedRowOf(&stored.Row)
	return nil
}

// needsCode returns whether the code of a stored saga has anything to do. Code that isn't needed doesn't run, because
// it may block.
func needsCode(row *journal.Row) bool {
	return row.EndTime.IsZero() && row.State != treatyv1.SagaState_SAGA_STATE_COMPENSATING &&
		row.Suspension != treatyv1.SuspensionReason_SUSPENSION_REASON_STUCK
}

func (l *loader) unreadable(id string, err error) {
	l.damaged.add(id, err)
	l.config.Logger.Error("a saga's journal can't be read; the saga doesn't continue", "saga", wire.SagaName(id),
		"error", err)
}

func replayTurn(m *machine.Machine, stored journal.Turn) error {
	turn := new(treatyv1.Turn)
	if err := proto.Unmarshal(stored.Data, turn); err != nil {
		return fmt.Errorf("%w: turn %d: %w", journal.ErrCorrupt, stored.Number, err)
	}
	return m.Replay(turn)
}

// newMachine returns an empty machine for a saga. truncated is how many turns of its journal are no longer stored.
func (l *loader) newMachine(inst *instance, definition string, truncated uint64) *machine.Machine {
	inst.code = l.watchdog.watch(inst.id)
	inst.code.misused = func(message string) { l.misused(inst.id, message) }
	inst.code.slow, inst.slow = inst.slow, nil
	config := l.common
	config.ID, config.Withdraw, config.Code = inst.id, inst.withdraw, l.config.Definitions[definition]
	config.Skipped, config.Coroutines = truncated, &inst.code.Group
	return machine.New(config)
}

// read reads a saga without its code.
func (l *loader) read(ctx context.Context, id string) (*machine.Saga, error) {
	stored, err := l.config.Store.Load(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("reading saga %s: %w", id, err)
	}
	return fold(stored)
}

// truncatedTurns returns how many turns are no longer stored since the saga was restarted.
func truncatedTurns(stored *journal.Journal) uint64 {
	if len(stored.Turns) == 0 {
		return 0
	}
	return stored.Turns[0].Number - 1
}

// fold reads a stored saga without its code. The errors are journal.ErrCorrupt and machine.ErrJournal.
func fold(stored *journal.Journal) (*machine.Saga, error) {
	if stored.Err != nil {
		return nil, fmt.Errorf("reading saga %s: %w", stored.Row.ID, stored.Err)
	}
	saga := &machine.Saga{ID: stored.Row.ID, Turns: truncatedTurns(stored)}
	for _, t := range stored.Turns {
		turn := new(treatyv1.Turn)
		if err := proto.Unmarshal(t.Data, turn); err != nil {
			return nil, fmt.Errorf("%w: saga %s, turn %d: %w", journal.ErrCorrupt, saga.ID, t.Number, err)
		}
		if err := saga.Fold(turn); err != nil {
			return nil, fmt.Errorf("reading saga %s: %w", saga.ID, err)
		}
	}
	return saga, nil
}
