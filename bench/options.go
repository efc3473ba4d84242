package main

import (
	"fmt"
	"time"

	"github.com/spf13/pflag"
)

// options are what a measurement can vary.
type options struct {
	Steps    int           `json:"steps"`
	InFlight int           `json:"in_flight"`
	Payload  int           `json:"payload_bytes"`
	Refused  int           `json:"refused_percent"`
	Rounds   int           `json:"rounds"`
	Round    time.Duration `json:"-"`
	WarmUp   time.Duration `json:"-"`
	Tracing  bool          `json:"tracing"`
	Inbox    bool          `json:"inbox"`
	Conns    int           `json:"client_connections"`
	Sleeping int           `json:"-"`
	Overload int           `json:"-"`
	Capacity float64       `json:"-"`
	Outage   bool          `json:"-"`
	Watchers []int         `json:"-"`
	Profile  string        `json:"-"`
}

func (o *options) register(flags *pflag.FlagSet) {
	flags.IntVar(&o.Steps, "steps", 3, "steps in each saga")
	flags.IntVar(&o.InFlight, "in-flight", 256, "sagas in flight at once")
	flags.IntVar(&o.Payload, "payload", 32, "bytes of ballast in each step's request and reply")
	flags.IntVar(&o.Refused, "refused", 0, "percent of sagas whose last step is refused, which compensates the others")
	flags.IntVar(&o.Rounds, "rounds", 4, "rounds of each, alternating")
	flags.DurationVar(&o.Round, "round", 4*time.Second, "how long a round is measured")
	flags.DurationVar(&o.WarmUp, "warm-up", time.Second, "how long each round runs before it is measured")
	flags.BoolVar(&o.Tracing, "tracing", false, "trace every saga, exporting to a collector that throws the spans away")
	flags.BoolVar(&o.Inbox, "inbox", false, "give the participant an inbox (a durable transaction for each command); "+
		"the floor's has none")
	flags.StringVar(&o.Profile, "profile", "", "write a CPU profile of the orchestrator to this file")
	flags.IntVar(&o.Sleeping, "sleeping", 0, "measure the cost of this many sleeping sagas instead")
	flags.IntVar(&o.Overload, "overload", 0, "measure this many sagas that are due at the same moment instead")
	flags.Float64Var(&o.Capacity, "capacity", 200, "commands per second that the participant does, with --overload")
	flags.BoolVar(&o.Outage, "outage", false, "with --overload, keep the participant down until the sagas are due")
	flags.IntSliceVar(&o.Watchers, "watchers", nil,
		"measure a long saga that has so many watchers instead, for each of these numbers")
	flags.IntVar(&o.Conns, "connections", 1, "connections of the client")
}

func (o *options) validate() error {
	for _, limit := range []struct {
		name            string
		value, low, top int
	}{
		{"steps", o.Steps, 1, 1000}, {"in-flight", o.InFlight, 1, 100_000}, {"payload", o.Payload, 0, 1 << 20},
		{"refused", o.Refused, 0, 100}, {"rounds", o.Rounds, 1, 1000}, {"connections", o.Conns, 1, 64},
		{"sleeping", o.Sleeping, 0, 10_000_000}, {"overload", o.Overload, 0, 1_000_000},
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
	return nil
}
