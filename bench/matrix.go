package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/pflag"
)

// The matrix has a cell for each of these combinations. Those with the same number in flight and the same refusals
// share a floor and are measured in turn, each with databases of its own.
var (
	matrixInFlight = []int{1, 64, 256, 1024}
	matrixRefused  = []int{0, 100}
	matrixWays     = []options{
		{Inbox: true}, {}, {Unary: true, Inbox: true}, {Unary: true},
		{Inbox: true, Tracing: true}, {Tracing: true},
	}
)

// shorten makes the rounds of a matrix shorter, unless flags say how long they are. The whole matrix takes some twelve
// minutes. The warm-up stays, because the first sagas of a thousand in flight take a while to end.
func (o *options) shorten(flags *pflag.FlagSet) {
	if !flags.Changed("round") {
		o.Round = 2 * time.Second
	}
	if !flags.Changed("rounds") {
		o.Rounds = 3
	}
}

// matrix measures all cells, and prints a table, or a report in each line.
func matrix(ctx context.Context, o options, out, progress io.Writer) error {
	var reports []*report
	for _, o.InFlight = range matrixInFlight {
		for _, o.Refused = range matrixRefused {
			fmt.Fprintf(progress, "%d in flight, %d%% refused\n", o.InFlight, o.Refused)
			cells, err := matrixCells(ctx, o, progress)
			if err != nil {
				return err
			}
			for _, r := range cells {
				if !o.JSON {
					break
				}
				if err := json.NewEncoder(out).Encode(r); err != nil {
					return fmt.Errorf("printing a report: %w", err)
				}
			}
			reports = append(reports, cells...)
		}
	}
	if !o.JSON {
		printMatrix(out, reports)
	}
	return nil
}

// matrixCells measures the cells that share a floor.
func matrixCells(ctx context.Context, o options, progress io.Writer) ([]*report, error) {
	o.Tracing = true
	m, err := newMeasurement(ctx, o)
	if err != nil {
		return nil, err
	}
	defer m.end()
	var sides []*side
	start := func(s *side, err error) error {
		sides = append(sides, s)
		return err
	}
	floors := make(map[bool]*side) // by whether they are traced
	for _, way := range matrixWays {
		if o.Inbox, o.Unary, o.Tracing = way.Inbox, way.Unary, way.Tracing; floors[o.Tracing] == nil {
			name := "floor"
			if o.Tracing {
				name = "traced floor"
			}
			if err := start(m.startFloor(name, o)); err != nil {
				return nil, err
			}
			floors[o.Tracing] = sides[len(sides)-1]
		}
		if err := start(m.startTreaty(way.how(), o)); err != nil {
			return nil, err
		}
	}
	if err := m.run(o, progress, sides...); err != nil {
		return nil, err
	}
	sides = slices.DeleteFunc(sides, func(s *side) bool { return s.store == "" })
	reports := make([]*report, len(matrixWays))
	for i, way := range matrixWays {
		o.Inbox, o.Unary, o.Tracing = way.Inbox, way.Unary, way.Tracing
		r := newReport(o, floors[o.Tracing].rounds, sides[i].rounds)
		if r.Bytes, err = sides[i].bytes(r.Sagas); err != nil {
			return nil, err
		}
		reports[i] = r
	}
	return reports, nil
}

// printMatrix prints the cells as a table in Markdown, those that send commands in the same way together.
func printMatrix(w io.Writer, reports []*report) {
	first := reports[0]
	fmt.Fprintf(w, "%d steps, %d B of ballast; %s\n", first.Steps, first.Payload, first.line(first.Rounds))
	for i, way := range matrixWays {
		fmt.Fprintf(w, "\n%s:\n\n", way.how())
		fmt.Fprint(w, "| in flight | refused | floor, sagas/s | Treaty, sagas/s | ratio | p50, ms | p99, ms "+
			"| CPU of the floor, us | CPU of Treaty, us | allocated by the orchestrator | by the participant |\n",
			"|---|---|---|---|---|---|---|---|---|---|---|\n")
		for j := i; j < len(reports); j += len(matrixWays) {
			r := reports[j]
			fmt.Fprintf(w, "| %d | %d%% | %.0f | %.0f | %.2f | %.1f; %.1f | %.1f; %.1f "+
				"| %.0f: %s | %.0f: %s | %s | %s |\n",
				r.InFlight, r.Refused, r.FloorPerSecond, r.TreatyPerSecond, r.Ratio,
				r.FloorP50, r.P50, r.FloorP99, r.P99, r.FloorCPU, r.FloorProcesses.cpu(), r.CPU, r.Processes.cpu(),
				r.Processes.Server.allocations(), r.Processes.Participant.allocations())
		}
	}
}
