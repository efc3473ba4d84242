package engine

import (
	"context"
	"fmt"
	"log/slog"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
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
}

// Finding is an open saga that can't continue with the code.
type Finding struct {
	// Saga is the saga's name, "sagas/{saga}".
	Saga string

	// Definition is the saga's definition.
	Definition string

	// State is the saga's state.
	State treatyv1.SagaState

	// Step is the step at which the code differs from the journal; empty when the saga can't run at all.
	Step string

	// Expected is what the journal holds there.
	Expected string

	// Found is what the code does there.
	Found string
}

// Verify replays every open saga against the code, without any effect, and returns the sagas that can't continue and
// how many open sagas there are. It also tries the next turn without recording it, and so finds a saga that the code
// would suspend. A saga that is being compensated needs no code; Verify checks that its journal can be read.
func Verify(ctx context.Context, params VerifyParams) (findings []Finding, verified int, err error) {
	for after := ""; ; {
		page, err := params.Store.Open(ctx, journal.OpenParams{After: after, Limit: recoverPage,
			Which: journal.Unended})
		if err != nil {
			return findings, verified, fmt.Errorf("reading open sagas: %w", err)
		}
		for _, stored := range page {
			after = stored.Row.ID
			verified++
			if finding := params.verify(stored); finding != nil {
				finding.Saga, finding.Definition, finding.State = wire.SagaName(
					stored.Row.ID), stored.Row.Definition, stored.Row.State
				findings = append(findings, *finding)
			}
		}
		if len(page) < recoverPage {
			return findings, verified, nil
		}
	}
}

func (p *VerifyParams) verify(stored *journal.Journal) *Finding {
	if stored.Err != nil {
		return &Finding{Expected: "a journal that can be read", Found: stored.Err.Error()}
	}
	saga, err := fold(stored)
	switch {
	case err != nil:
		return &Finding{Expected: "a journal that can be read", Found: err.Error()}
	case saga.CompensationDecided != nil:
		return nil // it is being compensated, which needs no code
	}
	code := p.Definitions[stored.Row.Definition]
	if code == nil {
		return &Finding{Expected: "code for " + stored.Row.Definition, Found: "none is registered"}
	}
	m, finding := p.replay(stored, code)
	defer func() { m.Close() }()
	if finding != nil {
		return finding
	}
	if suspension := saga.Suspension; suspension != nil {
		out, err := m.Apply(saga.UpdateTime, machine.Resume{Action: machine.Retry})
		if err != nil || !out.Reload ||
			suspension.GetReason() == treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_UNKNOWN {
			return nil // an operator must decide about a command first
		}
		m.Close()
		if m, finding = p.replay(stored, code); finding != nil {
			return finding
		}
		if err := m.Replay(out.Turn); err != nil {
			return &Finding{Expected: "a journal that can be read", Found: err.Error()}
		}
	}
	// What the code would do next, without an effect.
	if _, err := m.Apply(saga.UpdateTime, machine.Wake{}); err != nil {
		return &Finding{Expected: "a saga that continues", Found: err.Error()}
	}
	if stuck := m.Saga().Suspension; stuck != nil {
		return &Finding{Step: stuck.GetStep(), Expected: "code that continues", Found: stuck.GetMessage()}
	}
	return nil
}

// replay makes the machine of a saga, and returns what doesn't fit.
func (p *VerifyParams) replay(stored *journal.Journal, code machine.Code) (*machine.Machine, *Finding) {
	config := Config{Catalog: p.Catalog}
	m := machine.New(machine.Config{
		ID: stored.Row.ID, Code: code, Command: p.Catalog.Command, Event: config.isEvent,
		Skipped:     truncatedTurns(stored),
		Environment: slog.New(slog.DiscardHandler),
	})
	for _, turn := range stored.Turns {
		if err := replayTurn(m, turn); err != nil {
			return m, &Finding{Expected: "a journal that can be read", Found: err.Error()}
		}
		if mismatch := m.Mismatch(); mismatch != nil {
			return m, &Finding{Step: mismatch.GetStep(), Expected: mismatch.GetExpected(), Found: mismatch.GetFound()}
		}
	}
	if panicked := m.Panicked(); panicked != "" {
		return m, &Finding{Expected: "code that doesn't panic", Found: panicked}
	}
	return m, nil
}
