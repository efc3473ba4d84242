package main

import (
	"fmt"
	"io"
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

// workService is the participant's service.
var workService = benchv1.WorkService_ServiceDesc.ServiceName

// warnings returns a logger for warnings and errors.
func warnings(out io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

func treatyCommand() *cobra.Command {
	var participant, store, profile string
	var unary bool
	var secure string
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
			options := []orchestrator.Option{
				orchestrator.WithStore(store),
				orchestrator.WithStreamLimits(orchestrator.StreamLimits{PerCaller: maxWatchers, Total: maxWatchers}),
				orchestrator.WithParticipant(workService, participant),
				orchestrator.WithLogger(warnings(cmd.ErrOrStderr())),
				orchestrator.WithReady(func(r orchestrator.Ready) { fmt.Fprintln(cmd.OutOrStdout(), ready+r.Address) }),
			}
			options = append(options, secureDir(secure).orchestrator()...)
			if unary {
				options = append(options, orchestrator.WithUnary(workService))
			}
			o, err := orchestrator.New(options...)
			if err != nil {
				return fmt.Errorf("making the orchestrator: %w", err)
			}
			benchv1saga.RegisterWorkSagas(o, sagas{})
			return o.ListenAndServe(cmd.Context(), "127.0.0.1:0")
		},
	}
	cmd.Flags().StringVar(&participant, "participant", "", "the participant to call")
	cmd.Flags().StringVar(&store, "store", "", "the store's file")
	cmd.Flags().BoolVar(&unary, "unary", false, "open no command stream")
	cmd.Flags().StringVar(&secure, "certificates", "",
		"the directory of the certificates and the policy; empty: plaintext")
	cmd.Flags().StringVar(&profile, "profile", "", "where to write a CPU profile")
	return cmd
}
