package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/treatyhq/treaty/internal/postgres"
)

// measurement is what all sides of a measurement share.
type measurement struct {
	*children

	dir       string     // of the databases
	spans     *collector // nil unless a side is traced
	env       []string   // of processes that are traced
	databases []*postgres.Server
}

// newMeasurement starts a measurement without sides. It must be ended.
func newMeasurement(ctx context.Context, o options) (*measurement, error) {
	dir, err := os.MkdirTemp("", "treaty-bench-")
	if err != nil {
		return nil, fmt.Errorf("making a directory for the databases: %w", err)
	}
	m := &measurement{children: newChildren(ctx), dir: dir}
	if o.Tracing {
		if m.spans, m.env, err = startCollector(); err != nil {
			m.end()
			return nil, err
		}
	}
	return m, nil
}

// end ends all processes of the measurement and removes its databases.
func (m *measurement) end() {
	m.children.end()
	for _, database := range m.databases {
		_ = database.Close() // its folder goes away with this process at the latest
	}
	if m.spans != nil {
		m.spans.stop()
	}
	_ = os.RemoveAll(m.dir) // what is left is in the system's directory for temporary files
}

// side is one of those that are compared: a server that runs sagas, and the participant that it calls.
type side struct {
	name        string
	server      *process
	participant *process
	store       string // the file of Treaty's store, or the URL of its database
	database    *postgres.Server
	secure      secureDir  // empty: plaintext
	rounds      []measured // so far
}

// startFloor starts a server that runs the sagas by hand, and its participant: plain gRPC, with nothing of Treaty's.
// More flags are passed to both.
func (m *measurement) startFloor(name string, o options, flags ...string) (*side, error) {
	var env []string
	if o.Tracing {
		env, flags = m.env, append(flags, "--tracing")
	}
	participant, err := m.start(env, append([]string{"participant"}, flags...)...)
	if err != nil {
		return nil, err
	}
	server, err := m.start(env, append([]string{"floor", "--participant", participant.address}, flags...)...)
	return &side{name: name, server: server, participant: participant}, err
}

// startTreaty starts an orchestrator with a new store, and its participant. Their databases are in a directory of their
// own.
func (m *measurement) startTreaty(name string, o options) (*side, error) {
	return m.startTreatyOn(&side{name: name}, o)
}

// startSecure is startTreaty with processes that prove who they are, and with a policy.
func (m *measurement) startSecure(name string, o options) (*side, error) {
	dir, err := os.MkdirTemp(m.dir, "secure-")
	if err != nil {
		return nil, fmt.Errorf("making a directory for certificates: %w", err)
	}
	secure, err := newSecureDir(dir)
	if err != nil {
		return nil, err
	}
	return m.startTreatyOn(&side{name: name, secure: secure}, o)
}

// startTreatyOn is startTreaty with the store and the security of a side.
func (m *measurement) startTreatyOn(s *side, o options) (*side, error) {
	dir, err := os.MkdirTemp(m.dir, "treaty-")
	if err != nil {
		return nil, fmt.Errorf("making a directory for the databases: %w", err)
	}
	if s.store == "" {
		s.store = filepath.Join(dir, "treaty.db")
		if o.Store == postgresStore {
			if s.database, err = postgres.Start(m.ctx, postgres.Config{}); err != nil {
				return nil, err
			}
			m.databases = append(m.databases, s.database)
			s.store = s.database.DSN("postgres")
		}
	}
	args := append([]string{"participant", "--library"}, s.secure.args()...)
	if o.Inbox {
		args = append(args, "--inbox", dir)
	}
	treaty := append([]string{"treaty", "--store", s.store, "--profile", o.Profile}, s.secure.args()...)
	if o.Unary {
		treaty = append(treaty, "--unary")
	}
	var env []string
	if o.Tracing {
		env, args = m.env, append(args, "--tracing")
	}
	if s.participant, err = m.start(env, args...); err != nil {
		return nil, err
	}
	s.server, err = m.start(env, append(treaty, "--participant", s.participant.address)...)
	return s, err
}

// run runs the rounds of all sides, alternating.
func (m *measurement) run(o options, progress io.Writer, sides ...*side) error {
	for i := range o.Rounds {
		fmt.Fprintf(progress, "round %d of %d:", i+1, o.Rounds)
		for _, s := range sides {
			done, err := m.round(o, s)
			if err != nil {
				fmt.Fprintln(progress)
				return m.why(fmt.Errorf("round %d of %s: %w", i+1, s.name, err))
			}
			s.rounds = append(s.rounds, done)
			fmt.Fprintf(progress, " %s %.0f sagas/s (%.2f);", s.name, done.perSecond,
				done.perSecond/sides[0].rounds[i].perSecond)
		}
		fmt.Fprintln(progress)
	}
	return nil
}

// measured is one round.
type measured struct {
	round

	perSecond           float64
	server, participant usage // as the client's, with the warm-up
}

// cpu is the processor time of all processes for each saga.
func (m measured) cpu() float64 {
	return microseconds(m.Used.CPU+m.server.CPU+m.participant.CPU) / float64(m.AllSagas)
}

// round runs the client once against a side.
func (m *measurement) round(o options, s *side) (done measured, err error) {
	serverBefore, err := s.server.usage(m.ctx)
	if err != nil {
		return done, err
	}
	participantBefore, err := s.participant.usage(m.ctx)
	if err != nil {
		return done, err
	}
	out, err := m.output(append([]string{"client", "--target", s.server.address,
		"--steps", strconv.Itoa(o.Steps), "--in-flight", strconv.Itoa(o.InFlight), "--payload", strconv.Itoa(o.Payload),
		"--refused", strconv.Itoa(o.Refused), "--round", o.Round.String(), "--warm-up", o.WarmUp.String(),
		"--connections", strconv.Itoa(o.Conns)}, s.secure.args()...)...)
	if err != nil {
		return done, err
	}
	if err := json.Unmarshal(out, &done.round); err != nil {
		return done, fmt.Errorf("reading what the client measured: %w", err)
	}
	done.perSecond = float64(done.Sagas) / done.Elapsed.Seconds()
	serverAfter, err := s.server.usage(m.ctx)
	if err != nil {
		return done, err
	}
	participantAfter, err := s.participant.usage(m.ctx)
	done.server, done.participant = serverAfter.since(serverBefore), participantAfter.since(participantBefore)
	return done, err
}

// measure compares Treaty with the floor.
func measure(ctx context.Context, o options, progress io.Writer) (result *report, err error) {
	m, err := newMeasurement(ctx, o)
	if err != nil {
		return nil, err
	}
	defer m.end()
	floor, err := m.startFloor("floor", o)
	if err != nil {
		return nil, err
	}
	treaty, err := m.startTreaty("Treaty", o)
	if err != nil {
		return nil, err
	}
	sides := []*side{floor, treaty}
	var heapFloor *side
	if o.HeapFloor {
		if heapFloor, err = m.startFloor("floor with a heap floor", o, "--heap-floor"); err != nil {
			return nil, err
		}
		sides = append(sides, heapFloor)
	}
	var secure *side
	if o.Secure {
		if secure, err = m.startSecure("Treaty over mutual TLS", o); err != nil {
			return nil, err
		}
		sides = append(sides, secure)
	}
	var filled *side
	if o.Fill > 0 {
		if filled, err = m.startFilled(o, progress); err != nil {
			return nil, m.why(err)
		}
		sides = append(sides, filled)
	}
	if err := m.run(o, progress, sides...); err != nil {
		return nil, err
	}
	result = newReport(o, floor.rounds, treaty.rounds)
	if heapFloor != nil {
		result.HeapFloor = newBeside(heapFloor.rounds, ratioOf(heapFloor.rounds, treaty.rounds))
	}
	if secure != nil {
		result.Secure = newBeside(secure.rounds, ratioOf(treaty.rounds, secure.rounds))
	}
	if filled != nil {
		result.Filled = newBeside(filled.rounds, ratioOf(treaty.rounds, filled.rounds))
		result.Filled.Sagas = o.Fill
	}
	if result.Bytes, err = treaty.bytes(result.Sagas); err != nil {
		return nil, err
	}
	if m.spans != nil {
		result.Spans = m.spans.spans.Load()
	}
	return result, nil
}

// bytes ends the orchestrator and returns the size of its store, for each of the sagas in it.
func (s *side) bytes(sagas int) (float64, error) {
	if err := s.server.stop(); err != nil {
		return 0, err
	}
	if s.database != nil {
		size, err := databaseSize(s.store)
		return float64(size) / float64(sagas), err
	}
	size, err := sizeOf(s.store + "*")
	return float64(size) / float64(sagas), err
}

// databaseSize returns the size of a PostgreSQL database, with what it has when it is empty.
func databaseSize(url string) (size int64, err error) {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return 0, fmt.Errorf("sizing the database: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	err = conn.QueryRow(ctx, "SELECT pg_database_size(current_database())").Scan(&size)
	return size, err
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
func median[R any](rounds []R, figure func(R) float64) float64 {
	figures := make([]float64, len(rounds))
	for i, r := range rounds {
		figures[i] = figure(r)
	}
	slices.Sort(figures)
	middle := len(figures) / 2
	if len(figures)%2 == 0 {
		return (figures[middle-1] + figures[middle]) / 2
	}
	return figures[middle]
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func microseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
