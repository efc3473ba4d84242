package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// measure runs the rounds.
func measure(ctx context.Context, o options, progress io.Writer) (result *report, err error) {
	dir, err := os.MkdirTemp("", "treaty-bench-")
	if err != nil {
		return nil, fmt.Errorf("making a directory for the databases: %w", err)
	}
	defer os.RemoveAll(dir)

	var env []string
	var spans *collector
	if o.Tracing {
		if spans, env, err = startCollector(); err != nil {
			return nil, err
		}
		defer spans.stop()
	}
	all := &processes{children: newChildren(ctx)}
	defer all.end()
	if err := all.start(o, dir, env); err != nil {
		return nil, err
	}
	var floors, treaties []measured
	for i := range o.Rounds {
		floor, err := all.round(o, all.floor, all.plain)
		if err != nil {
			return nil, fmt.Errorf("round %d of the floor: %w", i+1, all.why(err))
		}
		treaty, err := all.round(o, all.treaty, all.participant)
		if err != nil {
			return nil, fmt.Errorf("round %d of Treaty: %w", i+1, all.why(err))
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
	*children

	participant *process // of Treaty
	plain       *process // of the floor: the same one, unless Treaty's participant has an inbox or spans
	floor       *process
	treaty      *process
}

// start starts all processes.
func (p *processes) start(o options, dir string, env []string) (err error) {
	if p.plain, err = p.children.start(nil, "participant"); err != nil {
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
		if p.participant, err = p.children.start(env, args...); err != nil {
			return err
		}
	}
	if p.floor, err = p.children.start(nil, "floor", "--participant", p.plain.address); err != nil {
		return err
	}
	p.treaty, err = p.children.start(env, "treaty", "--participant", p.participant.address,
		"--store", filepath.Join(dir, "treaty.db"), "--profile", o.Profile)
	return err
}

// measured is one round.
type measured struct {
	round

	perSecond float64
	cpu       time.Duration // of all processes, for each saga
}

// round runs the client once against a server, which calls the participant.
func (p *processes) round(o options, server, participant *process) (measured, error) {
	before, err := cpuOf(p.ctx, server, participant)
	if err != nil {
		return measured{}, err
	}
	out, err := p.output("client", "--target", server.address,
		"--steps", strconv.Itoa(o.Steps), "--in-flight", strconv.Itoa(o.InFlight), "--payload", strconv.Itoa(o.Payload),
		"--refused", strconv.Itoa(o.Refused), "--round", o.Round.String(), "--warm-up", o.WarmUp.String(),
		"--connections", strconv.Itoa(o.Conns))
	if err != nil {
		return measured{}, err
	}
	after, err := cpuOf(p.ctx, server, participant)
	if err != nil {
		return measured{}, err
	}
	var m measured
	if err := json.Unmarshal(out, &m.round); err != nil {
		return measured{}, fmt.Errorf("reading what the client measured: %w", err)
	}
	m.perSecond = float64(m.Sagas) / m.Elapsed.Seconds()
	m.cpu = (after - before + m.Used.CPU) / time.Duration(m.AllSagas)
	return m, nil
}

func cpuOf(ctx context.Context, processes ...*process) (time.Duration, error) {
	var sum time.Duration
	for _, p := range processes {
		now, err := p.usage(ctx)
		if err != nil {
			return 0, err
		}
		sum += now.CPU
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
