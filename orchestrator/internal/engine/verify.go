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
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// VerifyParams configures Verify.
type VerifyParams struct {
	// Store holds the sagas. It is only read.
	Store interface {
		Open(ctx context.Context, params journal.OpenParams) ([]*journal.Journal, error)
	}

	// Catalog holds the contracts.
	Catalog *contract.Catalog

	// Definitions holds the code of each saga definition, by its name.
	Definitions map[string]machine.Code

	// TurnLimit is how long the code of a saga may run. Default DefaultTurnLimit.
	TurnLimit time.Duration

	// Report is called for each saga that can't continue: Step says where the code differs from the journal, or is
	// empty when the saga can't run at all, Expected what the journal holds there, and Found what the code does.
	Report func(saga *journal.Row, wrong *treatyv1.SagaSuspended)

	// Verified is called after each saga, by several goroutines at once. It may be nil.
	Verified func()

	watchdog *watchdog
}

// Verify replays every open saga against the code, without any effect, and returns how many open sagas there are. It
// reports the sagas that can't continue. It compares what their journals hold with the contracts. It also tries the
// next turn without recording it, and so finds a saga that the code would suspend. A saga that is being compensated
// needs no code; Verify checks that its journal can be read, and its contracts. It doesn't wait for code that blocks.
// The code of several sagas runs at the same time.
func Verify(ctx context.Context, params VerifyParams) (verified int, err error) {
	params.watchdog = newWatchdog(params.TurnLimit, slog.New(slog.DiscardHandler), NoObserver{})
	defer params.watchdog.close()
	defer params.watchdog.hurryAfter(ctx)()
	for after := ""; ; {
		page, err := params.Store.Open(ctx, journal.OpenParams{
			After: after, Limit: recoverPage, Which: journal.Unended,
		})
		if err != nil {
			return verified, fmt.Errorf("reading open sagas: %w", err)
		}
		found := params.verifyPage(page)
		if ctx.Err() != nil {
			return verified, context.Cause(ctx)
		}
		for i, stored := range page {
			after = stored.Row.ID
			verified++
			if wrong := found[i]; wrong != nil {
				params.Report(&stored.Row, wrong)
			}
		}
		if len(page) < recoverPage {
			return verified, nil
		}
	}
}

// verifyPage returns for each saga why it can't continue, or nil. Only a few are loaded at a time, as in a recovery,
// but sagas whose code blocks block together.
func (p *VerifyParams) verifyPage(page []*journal.Journal) []*treatyv1.SagaSuspended {
	found := make([]*treatyv1.SagaSuspended, len(page))
	slots := make(chan struct{}, maxRecovering)
	var verifying sync.WaitGroup
	for i, stored := range page {
		slots <- struct{}{}
		done := sync.OnceFunc(func() { <-slots })
		verifying.Go(func() {
			defer done()
			found[i] = p.verify(stored, done)
			if p.Verified != nil {
				p.Verified()
			}
		})
	}
	verifying.Wait()
	return found
}

// verify returns why a saga can't continue, or nil. It calls slow if the saga's code takes long.
func (p *VerifyParams) verify(stored *journal.Journal, slow func()) *treatyv1.SagaSuspended {
	if stored.Err != nil {
		return &treatyv1.SagaSuspended{Expected: "a journal that can be read", Found: stored.Err.Error()}
	}
	saga, err := fold(stored)
	if err != nil {
		return &treatyv1.SagaSuspended{Expected: "a journal that can be read", Found: err.Error()}
	}
	if wrong := changedContract(p.Catalog, saga); wrong != nil {
		return wrong
	}
	if saga.CompensationDecided != nil {
		return nil // it is being compensated, which needs no code
	}
	code := p.Definitions[stored.Row.Definition]
	if code == nil {
		return &treatyv1.SagaSuspended{Expected: "code for " + stored.Row.Definition, Found: "none is registered"}
	}
	m, wrong := p.replay(stored, code, slow)
	defer func() { m.Close() }()
	if wrong != nil {
		return wrong
	}
	if suspension := saga.Suspension; suspension != nil {
		out, err := m.Apply(saga.UpdateTime, machine.Resume{Action: machine.Retry})
		if step := saga.Step(suspension.GetStep()); err != nil || !out.Reload ||
			step != nil && step.State == treatyv1.StepState_STEP_STATE_SCHEDULED {
			return nil // an operator must decide about a command first
		}
		m.Close()
		if m, wrong = p.replay(stored, code, slow); wrong != nil {
			return wrong
		}
		if err := m.Replay(out.Turn); err != nil {
			return &treatyv1.SagaSuspended{Expected: "a journal that can be read", Found: err.Error()}
		}
	}
	// What the code would do next, without an effect.
	if _, err := m.Apply(saga.UpdateTime, machine.Wake{}); err != nil {
		return &treatyv1.SagaSuspended{Expected: "a saga that continues", Found: err.Error()}
	}
	if stuck := m.Saga().Suspension; stuck != nil {
		return &treatyv1.SagaSuspended{
			Step: stuck.GetStep(), Expected: "code that continues", Found: stuck.GetMessage(),
		}
	}
	return nil
}

// replay makes the machine of a saga, and returns what doesn't fit.
func (p *VerifyParams) replay(
	stored *journal.Journal, code machine.Code, slow func(),
) (*machine.Machine, *treatyv1.SagaSuspended) {
	watched := p.watchdog.watch(stored.Row.ID)
	watched.slow = slow
	m := machine.New(machine.Config{
		ID: stored.Row.ID, Code: code, Command: p.Catalog.Command, Event: p.Catalog.EventType,
		Skipped:     truncatedTurns(stored),
		Environment: slog.New(slog.DiscardHandler),
		Coroutines:  &watched.Group,
	})
	for _, turn := range stored.Turns {
		if err := replayTurn(m, turn); err != nil {
			return m, &treatyv1.SagaSuspended{Expected: "a journal that can be read", Found: err.Error()}
		}
		if mismatch := m.Mismatch(); mismatch != nil {
			return m, mismatch
		}
	}
	if stuck := m.Stuck(); stuck != "" {
		return m, &treatyv1.SagaSuspended{Expected: "code that doesn't block", Found: "code that blocks " + stuck}
	}
	if panicked := m.Panicked(); panicked != "" {
		return m, &treatyv1.SagaSuspended{Expected: "code that doesn't panic", Found: panicked}
	}
	return m, nil
}
