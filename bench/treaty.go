package main

import (
	"fmt"
	"log/slog"
	"os"
	"runtime/pprof"
	"time"

	"github.com/spf13/cobra"

	benchv1 "github.com/treatyhq/treaty/gen/bench/v1"
	"github.com/treatyhq/treaty/gen/bench/v1/benchv1saga"
	"github.com/treatyhq/treaty/orchestrator"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// sagas is the same process as the floor's, as saga code.
type sagas struct{}

func (sagas) Run(ctx saga.Context, in *benchv1.RunRequest) (*benchv1.RunDone, error) {
	if seconds := in.GetSleepSeconds(); seconds > 0 {
		saga.Sleep(ctx, time.Duration(seconds)*time.Second)
	}
	for i := range in.GetSteps() {
		request := &benchv1.WorkRequest{Step: i, Payload: in.GetPayload(),
			Refuse: in.GetRefuse() && i == in.GetSteps()-1}
		if _, err := benchv1saga.Work(ctx, request); err != nil {
			return nil, err
		}
	}
	return &benchv1.RunDone{Steps: in.GetSteps()}, nil
}

func treatyCommand() *cobra.Command {
	var participant, store, profile string
	cmd := &cobra.Command{
		Use: "treaty", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if profile != "" {
				file, err := os.Create(profile)
				if err != nil {
					return fmt.Errorf("making the profile: %w", err)
				}
				if err := pprof.StartCPUProfile(file); err != nil {
					return fmt.Errorf("profiling: %w", err)
				}
				defer pprof.StopCPUProfile()
			}
			o, err := orchestrator.New(
				orchestrator.WithStore(store),
				orchestrator.WithParticipant("bench.v1.WorkService", participant),
				orchestrator.WithLogger(slog.New(slog.NewTextHandler(cmd.ErrOrStderr(),
					&slog.HandlerOptions{Level: slog.LevelWarn}))),
				orchestrator.WithReady(func(r orchestrator.Ready) { fmt.Fprintln(cmd.OutOrStdout(), ready+r.Address) }),
			)
			if err != nil {
				return fmt.Errorf("making the orchestrator: %w", err)
			}
			benchv1saga.RegisterWorkSagas(o, sagas{})
			return o.ListenAndServe(cmd.Context(), "127.0.0.1:0")
		},
	}
	cmd.Flags().StringVar(&participant, "participant", "", "the participant to call")
	cmd.Flags().StringVar(&store, "store", "", "the store's file")
	cmd.Flags().StringVar(&profile, "profile", "", "where to write a CPU profile")
	return cmd
}
