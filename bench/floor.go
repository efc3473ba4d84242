package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	benchv1 "github.com/treatyhq/treaty/gen/bench/v1"
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
	cmd := &cobra.Command{
		Use: "floor", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			conn, err := grpc.NewClient(participant, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				return fmt.Errorf("connecting to %s: %w", participant, err)
			}
			defer conn.Close()
			server := grpc.NewServer()
			benchv1.RegisterWorkSagasServer(server, &floor{participant: benchv1.NewWorkServiceClient(conn)})
			return serve(cmd.Context(), freePort, cmd.OutOrStdout(), server)
		},
	}
	cmd.Flags().StringVar(&participant, "participant", "", "the participant to call")
	return cmd
}
