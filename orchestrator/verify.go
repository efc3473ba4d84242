package orchestrator

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/sqlite"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// Finding is an open saga with which this program's code can't go on.
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

// Verify is the upgrade gate: it replays every saga in the store that hasn't ended against the registered code, without any effect, and
// returns those with which this code can't go on, and how many there are altogether. It may run beside the orchestrator that has the store
// open. The errors are those of definitions and of the store (fs.ErrNotExist, journal.ErrCorrupt, ErrVersion).
func (o *Orchestrator) Verify(ctx context.Context) (findings []Finding, verified int, err error) {
	code, err := o.registered()
	if err != nil {
		return nil, 0, err
	}
	store, err := sqlite.OpenReadOnly(ctx, o.settings.store)
	if err != nil {
		return nil, 0, err //nolint:wrapcheck // it names the file and what to do
	}
	defer func() { _ = store.Close() }() // it was only read
	found, verified, err := engine.Verify(ctx, engine.VerifyParams{Store: store, Catalog: o.catalog, Definitions: code})
	for _, f := range found {
		findings = append(findings, Finding(f))
	}
	if err != nil {
		return findings, verified, fmt.Errorf("verifying the store %s: %w", o.settings.store, err)
	}
	return findings, verified, nil
}

// registered returns the code of all definitions by name.
func (o *Orchestrator) registered() (map[string]machine.Code, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.checked()
}

// verify runs the upgrade gate and prints what it found.
func (p program) verify(cmd *cobra.Command, f *flags) error {
	logger, err := f.logger(p.stderr)
	if err != nil {
		return err
	}
	o, err := New(f.options(logger)...)
	if err != nil {
		return err
	}
	p.register(o)
	findings, verified, err := o.Verify(cmd.Context())
	if err != nil {
		return err
	}
	printFindings(p.stdout, findings)
	if len(findings) > 0 {
		return fmt.Errorf("this build can't go on with %d of %s", len(findings), counted(verified))
	}
	_, _ = fmt.Fprintf(p.stdout, "this build can go on with all of %s\n", counted(verified))
	return nil
}

func counted(sagas int) string {
	if sagas == 1 {
		return "1 open saga"
	}
	return fmt.Sprintf("%d open sagas", sagas)
}

func printFindings(out io.Writer, findings []Finding) {
	if len(findings) == 0 {
		return
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "SAGA\tDEFINITION\tSTATE\tSTEP\tEXPECTED\tFOUND")
	for _, f := range findings {
		step := f.Step
		if step == "" {
			step = "-"
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", f.Saga, f.Definition, strings.TrimPrefix(f.State.String(), "SAGA_STATE_"), step, f.Expected, f.Found)
	}
	_ = table.Flush() // to where everything is printed
}
