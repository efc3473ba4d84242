package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// measure runs the rounds.
func measure(ctx context.Context, o options, progress io.Writer) (result *report, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dir, err := os.MkdirTemp("", "treaty-bench-")
	if err != nil {
		return nil, fmt.Errorf("making a directory for the databases: %w", err)
	}
	defer os.RemoveAll(dir)

	var env []string
	var spans *collector
	if o.Tracing {
		if spans, env, err = startCollector(ctx); err != nil {
			return nil, err
		}
	}
	all := new(processes)
	defer all.end()
	if err := all.start(ctx, o, dir, env); err != nil {
		return nil, err
	}
	var floors, treaties []measured
	for i := range o.Rounds {
		floor, err := all.round(ctx, o, all.floor, all.plain)
		if err != nil {
			return nil, fmt.Errorf("round %d of the floor: %w", i+1, err)
		}
		treaty, err := all.round(ctx, o, all.treaty, all.participant)
		if err != nil {
			return nil, fmt.Errorf("round %d of Treaty: %w", i+1, err)
		}
		floors, treaties = append(floors, floor), append(treaties, treaty)
		fmt.Fprintf(progress, "round %d of %d: floor %.0f sagas/s, Treaty %.0f sagas/s, ratio %.2f\n",
			i+1, o.Rounds, floor.perSecond, treaty.perSecond, treaty.perSecond/floor.perSecond)
	}
	if err := all.treaty.stop(); err != nil {
		return nil, err
	}
	bytes, err := sizeOf(filepath.Join(dir, "treaty.db*"))
	if err != nil {
		return nil, err
	}
	result = newReport(o, floors, treaties, bytes)
	if spans != nil {
		result.Spans = spans.spans.Load()
	}
	return result, nil
}

// processes are all processes except the client's.
type processes struct {
	participant *process // of Treaty
	plain       *process // of the floor: the same one, unless Treaty's participant has an inbox or spans
	floor       *process
	treaty      *process
}

// start starts all processes. After an error, end stops those that were started.
func (p *processes) start(ctx context.Context, o options, dir string, env []string) (err error) {
	if p.plain, err = start(ctx, nil, "participant"); err != nil {
		return err
	}
	p.participant = p.plain
	if o.Inbox || o.Tracing {
		args := []string{"participant"}
		if o.Inbox {
			args = append(args, "--inbox", dir)
		}
		if o.Tracing {
			args = append(args, "--tracing")
		}
		if p.participant, err = start(ctx, env, args...); err != nil {
			return err
		}
	}
	if p.floor, err = start(ctx, nil, "floor", "--participant", p.plain.address); err != nil {
		return err
	}
	p.treaty, err = start(ctx, env, "treaty", "--participant", p.participant.address,
		"--store", filepath.Join(dir, "treaty.db"), "--profile", o.Profile)
	return err
}

// end stops the processes that run, so that none outlives the benchmark.
func (p *processes) end() {
	if p.participant == p.plain {
		p.participant = nil
	}
	for _, running := range []*process{p.treaty, p.floor, p.participant, p.plain} {
		if running != nil && running.cmd.ProcessState == nil {
			_ = running.stop() // the measurement has ended
		}
	}
}

// measured is one round.
type measured struct {
	round

	perSecond float64
	cpu       time.Duration // of all processes, for each saga
}

// round runs the client once against a server, which calls the participant.
func (p *processes) round(ctx context.Context, o options, server, participant *process) (measured, error) {
	before, err := cpuOf(server, participant)
	if err != nil {
		return measured{}, err
	}
	self, err := os.Executable()
	if err != nil {
		return measured{}, fmt.Errorf("finding the benchmark's own program: %w", err)
	}
	client := exec.CommandContext(ctx, self, "client", "--target", server.address,
		"--steps", strconv.Itoa(o.Steps), "--in-flight", strconv.Itoa(o.InFlight), "--payload", strconv.Itoa(o.Payload),
		"--refused", strconv.Itoa(o.Refused), "--round", o.Round.String(), "--warm-up", o.WarmUp.String(),
		"--connections", strconv.Itoa(o.Conns))
	client.Stderr = os.Stderr
	out, err := client.Output()
	if err != nil {
		return measured{}, fmt.Errorf("running the client: %w", err)
	}
	after, err := cpuOf(server, participant)
	if err != nil {
		return measured{}, err
	}
	var m measured
	if err := json.Unmarshal(out, &m.round); err != nil {
		return measured{}, fmt.Errorf("reading what the client measured: %w", err)
	}
	m.perSecond = float64(m.Sagas) / m.Elapsed.Seconds()
	m.cpu = (after - before + m.CPU) / time.Duration(m.AllSagas)
	return m, nil
}

func cpuOf(processes ...*process) (time.Duration, error) {
	var sum time.Duration
	for _, p := range processes {
		cpu, err := p.cpu()
		if err != nil {
			return 0, err
		}
		sum += cpu
	}
	return sum, nil
}

func sizeOf(pattern string) (int64, error) {
	files, err := filepath.Glob(pattern)
	if err != nil {
		return 0, fmt.Errorf("finding the store's files: %w", err)
	}
	var sum int64
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			return 0, fmt.Errorf("sizing the store: %w", err)
		}
		sum += info.Size()
	}
	return sum, nil
}

// median of what each round gives.
func median[T ~float64 | ~int64](rounds []measured, figure func(measured) T) T {
	figures := make([]T, len(rounds))
	for i, r := range rounds {
		figures[i] = figure(r)
	}
	slices.Sort(figures)
	return figures[len(figures)/2]
}
