// Command bench measures Treaty against the floor: the same gRPC calls made by hand, with no orchestrator and nothing
// durable. Client, server and participant are separate processes on loopback. Rounds of the floor and of Treaty
// alternate, so that a machine whose speed drifts doesn't favor one of them: trust the ratio, not the figures.
//
//	go run ./bench
//	go run ./bench --json --steps 5 --in-flight 64
//	go run ./bench --no-inbox
//
// Treaty's participant has an inbox and serves the command stream, as it should. The floor's has nothing of Treaty's.
//
// With --matrix, it measures many combinations and prints a table:
//
//	go run ./bench --matrix
//
// With --fill, it also measures Treaty with a store that has millions of finished sagas:
//
//	go run ./bench --fill 10000000 --fill-store /var/tmp/filled.db
//
// The command compare compares a commit with the working tree, in alternating runs:
//
//	go run ./bench compare --base main
//
// With --sleeping, it measures the cost of sagas that only wait instead:
//
//	go run ./bench --sleeping 100000 --json
//
// With --overload, it measures what becomes of sagas that are all due at the same moment:
//
//	go run ./bench --overload 8000 --capacity 200 --json
//	go run ./bench --overload 20000 --capacity 500 --outage --json
//
// With --watchers, it measures what it costs to watch a saga of 300 steps:
//
//	go run ./bench --watchers 0,10,100,1000,10000 --json
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal isn't caught
	if os.Getenv(childVariable) != "" {
		ctx = asChild(ctx, os.Stdin, os.Stdout)
		exitAfter(ctx, grace, os.Exit)
	} else {
		ctx = untilStarterEnds(ctx)
	}
	if err := rootCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func rootCommand() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:           "bench",
		Short:         "Measure Treaty against the same calls made by hand",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.validate(); err != nil {
				return err
			}
			progress := cmd.ErrOrStderr()
			if o.Matrix {
				o.shorten(cmd.Flags())
				return matrix(cmd.Context(), o, cmd.OutOrStdout(), progress)
			}
			if o.Sleeping > 0 {
				return sleep(cmd.Context(), o, cmd.OutOrStdout(), progress)
			}
			if o.Overload > 0 {
				return overload(cmd.Context(), o, cmd.OutOrStdout(), progress)
			}
			if len(o.Watchers) > 0 {
				return watched(cmd.Context(), o, cmd.OutOrStdout())
			}
			report, err := measure(cmd.Context(), o, progress)
			if err != nil {
				return err
			}
			if o.JSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(report)
			}
			report.print(cmd.OutOrStdout())
			return nil
		},
	}
	o.register(cmd.Flags())
	cmd.AddCommand(compareCommand(), clientCommand(), floorCommand(), treatyCommand(), participantCommand())
	return cmd
}
