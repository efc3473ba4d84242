package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"
)

// options are what a measurement can vary.
type options struct {
	Steps     int           `json:"steps"`
	InFlight  int           `json:"in_flight"`
	Payload   int           `json:"payload_bytes"`
	Refused   int           `json:"refused_percent"`
	Rounds    int           `json:"rounds"`
	Round     time.Duration `json:"-"`
	WarmUp    time.Duration `json:"-"`
	Tracing   bool          `json:"tracing"`
	Store     string        `json:"store,omitempty"`
	Inbox     bool          `json:"inbox"` // set by validate
	NoInbox   bool          `json:"-"`
	Unary     bool          `json:"unary"`
	Conns     int           `json:"client_connections"`
	HeapFloor bool          `json:"-"`
	Secure    bool          `json:"-"`
	Fill      int           `json:"-"`
	FillStore string        `json:"-"`
	Matrix    bool          `json:"-"`
	Sleeping  int           `json:"-"`
	Overload  int           `json:"-"`
	Capacity  float64       `json:"-"`
	Outage    bool          `json:"-"`
	Watchers  []int         `json:"-"`
	Profile   string        `json:"-"`
	JSON      bool          `json:"-"`
}

// The stores that Treaty is measured with.
const (
	sqliteStore   = "sqlite"
	postgresStore = "postgres"
)

// register adds a flag for each option.
func (o *options) register(flags *pflag.FlagSet) {
	flags.IntVar(&o.Steps, "steps", 3, "steps in each saga")
	flags.IntVar(&o.InFlight, "in-flight", 256, "sagas in flight at once")
	flags.IntVar(&o.Payload, "payload", 32, "bytes of ballast in each step's request and reply")
	flags.IntVar(&o.Refused, "refused", 0, "percent of sagas whose last step is refused, which compensates the others")
	flags.IntVar(&o.Rounds, "rounds", 4, "rounds of each, alternating")
	flags.DurationVar(&o.Round, "round", 4*time.Second, "how long a round is measured")
	flags.DurationVar(&o.WarmUp, "warm-up", time.Second, "how long each round runs before it is measured")
	flags.BoolVar(&o.Tracing, "tracing", false, "trace every saga, and every call of the floor, exporting to a "+
		"collector that throws the spans away")
	flags.StringVar(&o.Store, "store", sqliteStore, "Treaty's store: sqlite, or postgres, which starts a server of "+
		"its own that flushes to the disk; its processor time isn't measured")
	flags.BoolVar(&o.NoInbox, "no-inbox", false, "give Treaty's participant no inbox; "+
		"with it, each command is a part of a durable transaction")
	flags.BoolVar(&o.Unary, "unary", false, "send each command in a call of its own, not on the stream of commands")
	flags.BoolVar(&o.HeapFloor, "heap-floor", true, "also measure the floor with a heap floor, like Treaty's processes")
	flags.BoolVar(&o.Secure, "secure", false, "also measure Treaty over mutual TLS, with a policy")
	flags.StringVar(&o.Profile, "profile", "", "write a CPU profile of the orchestrator to this file")
	flags.IntVar(&o.Conns, "connections", 1, "connections of the client")
	flags.BoolVar(&o.JSON, "json", false, "print JSON")
	flags.IntVar(&o.Fill, "fill", 0, "also measure a store with this many finished sagas, and compare it with the "+
		"empty one")
	flags.StringVar(&o.FillStore, "fill-store", "", "with --fill, use a copy of the store in this file; if there is "+
		"none, keep a copy there")
	flags.BoolVar(&o.Matrix, "matrix", false, "measure many combinations of --in-flight, --refused, --tracing, "+
		"--no-inbox and --unary, in shorter rounds, and print a table in Markdown; "+
		"with --json, a report in each line")
	flags.IntVar(&o.Sleeping, "sleeping", 0, "measure the cost of this many sleeping sagas instead")
	flags.IntVar(&o.Overload, "overload", 0, "measure this many sagas that are due at the same moment instead")
	flags.Float64Var(&o.Capacity, "capacity", 200, "commands per second that the participant does, with --overload")
	flags.BoolVar(&o.Outage, "outage", false, "with --overload, keep the participant down until the sagas are due")
	flags.IntSliceVar(&o.Watchers, "watchers", nil,
		"measure a long saga that has so many watchers instead, for each of these numbers")
}

func (o *options) validate() error {
	for _, limit := range []struct {
		name            string
		value, low, top int
	}{
		{"steps", o.Steps, 1, 1000}, {"in-flight", o.InFlight, 1, 100_000}, {"payload", o.Payload, 0, 1 << 20},
		{"refused", o.Refused, 0, 100}, {"rounds", o.Rounds, 1, 1000}, {"connections", o.Conns, 1, 64},
		{"fill", o.Fill, 0, 100_000_000}, {"sleeping", o.Sleeping, 0, 10_000_000},
		{"overload", o.Overload, 0, 1_000_000},
	} {
		if limit.value < limit.low || limit.value > limit.top {
			return fmt.Errorf("--%s is %d; it must be between %d and %d", limit.name, limit.value, limit.low, limit.top)
		}
	}
	for _, watchers := range o.Watchers {
		if watchers < 0 || watchers > 100_000 {
			return fmt.Errorf("--watchers has %d; it must be between 0 and 100000", watchers)
		}
	}
	if o.Round < 100*time.Millisecond || o.Round > time.Hour || o.WarmUp < 0 || o.WarmUp > time.Hour {
		return fmt.Errorf("--round %v must be between 100ms and 1h, --warm-up %v between 0 and 1h", o.Round, o.WarmUp)
	}
	if o.Capacity <= 0 {
		return fmt.Errorf("--capacity is %v; it must be positive", o.Capacity)
	}
	if o.Store != sqliteStore && o.Store != postgresStore {
		return fmt.Errorf("--store is %q; it must be %s or %s", o.Store, sqliteStore, postgresStore)
	}
	if o.Store == postgresStore && o.Fill > 0 {
		return errors.New("--fill measures a SQLite store")
	}
	if o.Outage && o.Overload == 0 {
		return errors.New("--outage needs --overload")
	}
	if o.FillStore != "" && o.Fill == 0 {
		return errors.New("--fill-store needs --fill")
	}
	if o.Profile != "" && o.Matrix {
		return errors.New("--profile is for one orchestrator, and --matrix measures many")
	}
	o.Inbox = !o.NoInbox
	return o.validateInstead()
}

// validateInstead refuses two measurements at once.
func (o *options) validateInstead() error {
	var instead []string
	for _, measurement := range []struct {
		flag  string
		given bool
	}{
		{"--fill", o.Fill > 0}, {"--matrix", o.Matrix}, {"--sleeping", o.Sleeping > 0}, {"--overload", o.Overload > 0},
		{"--watchers", len(o.Watchers) > 0},
	} {
		if measurement.given {
			instead = append(instead, measurement.flag)
		}
	}
	if len(instead) > 1 {
		return fmt.Errorf("%s and %s are different measurements; choose one", instead[0], instead[1])
	}
	return nil
}
