package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	benchv1 "github.com/treatyhq/treaty/gen/bench/v1"
	"github.com/treatyhq/treaty/internal/heapfloor"
)

// floor runs the steps by hand: it calls the participant and, when that refuses, undoes by hand too. Nothing is
// durable.
type floor struct {
	benchv1.UnimplementedWorkSagasServer

	participant benchv1.WorkServiceClient
}

func (f *floor) Run(ctx context.Context, in *benchv1.RunRequest) (*benchv1.RunDone, error) {
	for i := range in.GetSteps() {
		request := &benchv1.WorkRequest{Step: i, Payload: in.GetPayload(),
			Refuse: in.GetRefuse() && i == in.GetSteps()-1}
		if _, err := f.participant.Work(ctx, request); err != nil {
			for undo := i - 1; undo >= 0; undo-- {
				action := &benchv1.WorkRequest{Step: undo, Payload: in.GetPayload()}
				if _, undoErr := f.participant.UndoWork(ctx, &benchv1.UndoWorkRequest{Action: action}); undoErr != nil {
					return nil, fmt.Errorf("undoing step %d: %w", undo, undoErr)
				}
			}
			return nil, err
		}
	}
	return &benchv1.RunDone{Steps: in.GetSteps()}, nil
}

func floorCommand() *cobra.Command {
	var participant string
	var tracing, heapFloor bool
	cmd := &cobra.Command{
		Use: "floor", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if heapFloor {
				defer heapfloor.Hold(0)()
			}
			dial := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
			var options []grpc.ServerOption
			if tracing {
				shutDown, err := startTracing(cmd.Context(), "bench-floor")
				if err != nil {
					return err
				}
				defer func() { err = errors.Join(err, shutDown()) }()
				dial, options = append(dial, tracedClient()), append(options, tracedServer())
			}
			conn, err := grpc.NewClient(participant, dial...)
			if err != nil {
				return fmt.Errorf("connecting to %s: %w", participant, err)
			}
			defer conn.Close()
			server := grpc.NewServer(options...)
			benchv1.RegisterWorkSagasServer(server, &floor{participant: benchv1.NewWorkServiceClient(conn)})
			return serve(cmd.Context(), freePort, cmd.OutOrStdout(), server)
		},
	}
	cmd.Flags().StringVar(&participant, "participant", "", "the participant to call")
	cmd.Flags().BoolVar(&tracing, "tracing", false, "export spans")
	cmd.Flags().BoolVar(&heapFloor, "heap-floor", false, "collect garbage seldom while the heap is small")
	return cmd
}
