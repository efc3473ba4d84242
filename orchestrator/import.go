package orchestrator

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/treatyhq/treaty/orchestrator/internal/cluster"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/stores"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/transfer"
)

// Import moves the SQLite store in a file into the empty PostgreSQL database that is this orchestrator's store: all of
// it, or nothing. Then the file is marked as replaced, so that no orchestrator drives its sagas any more. No
// orchestrator may have either of them open.
//
// The errors are those of the store (ErrStoreLocked, ErrStoreCorrupt, ErrStoreVersion, ErrStoreReadOnly, ErrStoreFull),
// and fs.ErrNotExist if there is no such file.
func (o *Orchestrator) Import(ctx context.Context, from string) error {
	if !stores.Shared(o.settings.store) {
		return errors.New("importing a store: --store isn't a PostgreSQL database; a SQLite store becomes another " +
			"SQLite store by backup and restore")
	}
	return transfer.ToPostgres(ctx, transfer.Params{
		From: from, To: o.settings.store, Name: o.settings.name, Shards: cluster.DefaultShards,
	})
}

// importCommand returns the subcommand that moves a SQLite store into PostgreSQL.
func (p program) importCommand(f *flags) *cobra.Command {
	var from string
	command := &cobra.Command{
		Use: "import --from FILE", Short: "Move a SQLite store into the PostgreSQL database that --store names",
		Long: "Moves the sagas and events of a SQLite store into an empty PostgreSQL database, all of them or none,\n" +
			"with no orchestrator running. The file is marked as replaced then, so that nobody serves it any more.\n" +
			"Sagas that haven't ended continue once an orchestrator serves the database.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if from == "" {
				return usageError{errors.New("--from is missing: name the SQLite file")}
			}
			o, err := p.configured(cmd, f)
			if err != nil {
				return err
			}
			line := p.line(func() string { return "moving " + from + " into " + stores.Display(f.store) })
			err = o.Import(cmd.Context(), from)
			line.Stop()
			if err != nil {
				return err
			}
			_, _ = fmt.Fprintf(p.stdout, "%s is in %s now\n", from, stores.Display(f.store))
			return nil
		},
	}
	command.Flags().StringVar(&from, "from", "", "the SQLite `FILE`")
	return command
}
