package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	benchv1 "github.com/treatyhq/treaty/gen/bench/v1"
)

// round is the result of one round of the client.
type round struct {
	Sagas    int           `json:"sagas"`   // that ended in the measured part
	AllSagas int           `json:"all"`     // with those of the warm-up
	Elapsed  time.Duration `json:"elapsed"` // of the measured part
	P50      time.Duration `json:"p50"`     // from call to answer
	P99      time.Duration `json:"p99"`
	Used     usage         `json:"used"`     // by the client's process, with the warm-up
	Refusals int           `json:"refusals"` // sagas that were compensated, as requested
}

func clientCommand() *cobra.Command {
	var o options
	var target, secure string
	cmd := &cobra.Command{
		Use: "client", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			result, err := load(cmd.Context(), target, secureDir(secure), o)
			if err != nil {
				return err
			}
			return json.NewEncoder(cmd.OutOrStdout()).Encode(result)
		},
	}
	cmd.Flags().StringVar(&target, "target", "", "the server to call")
	cmd.Flags().StringVar(&secure, "certificates", "", "the directory of the certificates; empty: plaintext")
	o.register(cmd.Flags())
	return cmd
}

// worker is one saga in flight after the other.
type worker struct {
	client    benchv1.WorkSagasClient
	latencies []time.Duration // of the sagas that ended in the measured part
	late      []time.Duration // of those that ended after it
	last      time.Time       // when the last one ended
	all       int
	refusals  int
}

// load keeps a number of sagas in flight, each worker starting the next one when its last one is answered.
func load(ctx context.Context, target string, secure secureDir, o options) (*round, error) {
	transport, err := secure.client()
	if err != nil {
		return nil, err
	}
	clients := make([]benchv1.WorkSagasClient, o.Conns)
	for i := range clients {
		conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(transport))
		if err != nil {
			return nil, fmt.Errorf("connecting to %s: %w", target, err)
		}
		defer conn.Close()
		clients[i] = benchv1.NewWorkSagasClient(conn)
	}
	begin := time.Now().Add(o.WarmUp)
	end := begin.Add(o.Round)
	workers := make([]worker, o.InFlight)
	errs := make(chan error, o.InFlight)
	var group sync.WaitGroup
	for i := range workers {
		w := &workers[i]
		w.client = clients[i%len(clients)]
		group.Go(func() {
			if err := w.work(ctx, o, i, begin, end); err != nil {
				errs <- err
			}
		})
	}
	group.Wait()
	select {
	case err := <-errs:
		return nil, err
	default:
	}
	return summarize(workers, begin, end)
}

func (w *worker) work(ctx context.Context, o options, seed int, begin, end time.Time) error {
	payload := make([]byte, o.Payload)
	for n := seed; ; n += o.InFlight {
		refuse := n%100 < o.Refused
		started := time.Now()
		if !started.Before(end) {
			return nil
		}
		_, err := w.client.Run(ctx, &benchv1.RunRequest{Steps: int32(o.Steps), Payload: payload, Refuse: refuse})
		switch {
		case err == nil:
		case refuse && status.Code(err) == codes.FailedPrecondition:
			w.refusals++
		default:
			return fmt.Errorf("running a saga: %w", err)
		}
		done := time.Now()
		w.all++
		switch {
		case !done.Before(end):
			w.late, w.last = append(w.late, done.Sub(started)), done
		case !done.Before(begin):
			w.latencies = append(w.latencies, done.Sub(started))
		}
	}
}

// summarize returns the figures of a round. If no saga has ended in the measured part, which was too short then, it is
// as if the measured part had lasted until all have ended.
func summarize(workers []worker, begin, end time.Time) (*round, error) {
	result := new(round)
	var latencies, late []time.Duration
	last := end
	for _, w := range workers {
		latencies, late = append(latencies, w.latencies...), append(late, w.late...)
		if w.last.After(last) {
			last = w.last
		}
		result.AllSagas += w.all
		result.Refusals += w.refusals
	}
	if len(latencies) == 0 {
		latencies, end = late, last
	}
	if len(latencies) == 0 {
		return nil, fmt.Errorf("no saga ended within %v; give --round more time", end.Sub(begin))
	}
	result.Elapsed = end.Sub(begin)
	slices.Sort(latencies)
	result.Sagas = len(latencies)
	result.P50, result.P99 = latencies[len(latencies)/2], latencies[len(latencies)*99/100]
	var err error
	result.Used, err = ownUsage()
	return result, err
}
