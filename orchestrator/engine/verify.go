package engine

import (
	"context"
	"fmt"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/journal"
	"github.com/treatyhq/treaty/orchestrator/machine"
)

// VerifyParams says what is to be verified.
type VerifyParams struct {
	// Store is read, and never written.
	Store interface {
		Open(ctx context.Context, params journal.OpenParams) ([]*journal.Journal, error)
	}

	// Catalog knows the contracts.
	Catalog *contract.Catalog

	// Definitions holds the code of each saga definition, by its name.
	Definitions map[string]machine.Code
}

// Finding is an open saga with which this code can't go on.
type Finding struct {
	// Saga is its name, "sagas/{saga}".
	Saga string

	// Definition is its definition.
	Definition string

	// State is where it stands.
	State treatyv1.SagaState

	// Step is where code and journal part; empty when the saga can't be run at all.
	Step string

	// Expected is what the journal holds there.
	Expected string

	// Found is what the code does there.
	Found string
}

// Verify replays every saga that hasn't ended against this code, without any effect, and returns those with which it can't go on, and how
// many there are altogether. Sagas that are being undone need no code; of them it is verified that they can be read.
func Verify(ctx context.Context, params VerifyParams) (findings []Finding, verified int, err error) {
	for after := ""; ; {
		page, err := params.Store.Open(ctx, journal.OpenParams{After: after, Limit: recoverPage, Which: journal.Unended})
		if err != nil {
			return findings, verified, fmt.Errorf("reading open sagas: %w", err)
		}
		for _, stored := range page {
			after = stored.Row.ID
			verified++
			if finding := params.verify(stored); finding != nil {
				finding.Saga, finding.Definition, finding.State = "sagas/"+stored.Row.ID, stored.Row.Definition, stored.Row.State
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
	code := p.Definitions[stored.Row.Definition]
	if stored.Row.State == treatyv1.SagaState_SAGA_STATE_COMPENSATING {
		code = nil
	} else if code == nil {
		return &Finding{Expected: "code for " + stored.Row.Definition, Found: "none is registered"}
	}
	config := Config{Catalog: p.Catalog}
	m := machine.New(machine.Config{
		ID: stored.Row.ID, Code: code, Command: p.Catalog.Command, Event: config.isEvent, Skipped: skipped(stored),
	})
	defer m.Close()
	for _, turn := range stored.Turns {
		if err := replayTurn(m, turn); err != nil {
			return &Finding{Expected: "a journal that can be read", Found: err.Error()}
		}
		if mismatch := m.Mismatch(); mismatch != nil {
			return &Finding{Step: mismatch.GetStep(), Expected: mismatch.GetExpected(), Found: mismatch.GetFound()}
		}
	}
	if panicked := m.Panicked(); panicked != "" {
		return &Finding{Expected: "code that doesn't panic", Found: panicked}
	}
	return nil
}
