package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

const (
	// DefaultShards is the number of shards of a new cluster.
	DefaultShards = 64

	// DefaultLanes is the number of rows that the commits of a member lock.
	DefaultLanes = 4

	// DefaultLease is how long a lease lasts after a renewal.
	DefaultLease = 3 * time.Second

	// DefaultPoll is how often a member looks at the directory.
	DefaultPoll = 100 * time.Millisecond
)

// Config configures a Member.
type Config struct {
	// Directory is what the instances share. It is required. The member doesn't close it.
	Directory Directory

	// Address is where the other instances reach this one, HOST:PORT.
	Address string

	// Acquired begins to drive a shard. It is required. It runs beside calls for other shards, and may take its time:
	// the context ends when the shard is lost or is to be handed over. An error means that nothing was begun; then the
	// shard is given up and claimed again, by this member or another one.
	Acquired func(context.Context, *Holding) error

	// Lost ends what Acquired began, and returns when the shard isn't driven any more: no commit will begin, and no
	// command be sent. It is required, and is called once for each call of Acquired that returned nil, before the next
	// call of Acquired for the same shard. In a hand-over the holding is still valid, so that what is under way can be
	// brought to an end; the sooner Lost returns, the sooner another instance goes on. After a lost lease it isn't.
	Lost func(*Holding)

	// Shards is the number of shards if the cluster has none yet. It never changes. Default DefaultShards.
	Shards int

	// Lanes is the number of rows that this member's commits lock: the number of connections on which it commits at
	// once. Default DefaultLanes.
	Lanes int

	// Lease is how long a lease lasts after a renewal, and so about how long the shards of an instance that crashed are
	// driven by nobody. Default DefaultLease.
	Lease time.Duration

	// Renewal is how often the lease is renewed. It must be shorter than half of Lease. Default a third of Lease.
	Renewal time.Duration

	// Poll is how often the member looks at the directory, and so how long free shards wait for it. A member that is
	// alone looks as often as it renews its lease. Default DefaultPoll.
	Poll time.Duration

	// Clock tells the time since any moment. It must go on while the process or the machine doesn't run, and must
	// never be set. Default CLOCK_BOOTTIME, or the wall clock on systems other than Linux.
	Clock func() time.Duration

	// Logger receives what an operator should know. Default slog.Default.
	Logger *slog.Logger
}

// withDefaults returns the configuration with its defaults, or an error that says what is wrong with it.
func (c Config) withDefaults() (Config, error) {
	if c.Directory == nil || c.Acquired == nil || c.Lost == nil {
		return c, errors.New("a directory, and what to do with a shard, are required")
	}
	if c.Shards == 0 {
		c.Shards = DefaultShards
	}
	if c.Lanes == 0 {
		c.Lanes = DefaultLanes
	}
	if c.Lease == 0 {
		c.Lease = DefaultLease
	}
	if c.Renewal == 0 {
		c.Renewal = c.Lease / 3
	}
	if c.Poll == 0 {
		c.Poll = DefaultPoll
	}
	if c.Clock == nil {
		c.Clock = bootTime
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	switch {
	case c.Shards < 1 || c.Lanes < 1:
		return c, fmt.Errorf("%d shards and %d lanes: at least one of each is needed", c.Shards, c.Lanes)
	case c.Lease < time.Millisecond || c.Renewal <= 0 || c.Poll <= 0:
		return c, fmt.Errorf("a lease of %v, renewed every %v, and a look every %v: all must be positive",
			c.Lease, c.Renewal, c.Poll)
	case c.Renewal >= c.Lease/2:
		return c, fmt.Errorf("a lease of %v that is renewed every %v: one lost renewal would end it; renew it more "+
			"often", c.Lease, c.Renewal)
	}
	return c, nil
}
