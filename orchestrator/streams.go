package orchestrator

import (
	"fmt"
	"math"
	"time"

	"github.com/spf13/pflag"

	"github.com/treatyhq/treaty/orchestrator/internal/quota"
)

const (
	// DefaultCallerStreams is the default of StreamLimits.PerCaller.
	DefaultCallerStreams = quota.DefaultStreams

	// DefaultTotalStreams is the default of StreamLimits.Total.
	DefaultTotalStreams = quota.DefaultTotalStreams

	// DefaultStalledAfter is the default of StreamLimits.StalledAfter.
	DefaultStalledAfter = quota.DefaultStalledAfter
)

// StreamLimits limit the streams that callers have open: those that read events, watch a saga, or read descriptors. 0
// is the default of each.
type StreamLimits struct {
	// PerCaller is how many streams one caller may have open. A caller is the principal of its client certificate, or
	// else its host. Default DefaultCallerStreams.
	PerCaller int

	// Total is how many streams all callers together may have open. Default DefaultTotalStreams.
	Total int

	// StalledAfter is after how long a stream is ended whose reader takes nothing, although something was sent to it.
	// Default DefaultStalledAfter.
	StalledAfter time.Duration
}

// WithStreamLimits limits the streams that callers have open. One more than the limits allow is refused with
// RESOURCE_EXHAUSTED, and a stream whose reader takes nothing is ended with it. Whoever reads events goes on after the
// position that the error tells.
func WithStreamLimits(limits StreamLimits) Option { return func(s *settings) { s.streams = limits } }

// WithEventLimit limits how many events are stored. Publishing more is refused with RESOURCE_EXHAUSTED, until older
// ones are purged ([WithEventRetention]). Events that the orchestrator publishes itself count, and aren't refused. 0
// means any number. Default 0.
func WithEventLimit(events int) Option { return func(s *settings) { s.eventLimit = events } }

// DefaultConnectionAge is the default of WithConnectionAge.
const DefaultConnectionAge = 30 * time.Minute

// WithConnectionAge sets after how long a connection of a client is closed, a tenth more or less, so that who was let
// in once is checked again. Its calls may go on for two more minutes; those that take longer end with UNAVAILABLE.
// Clients connect again by themselves. A connection whose client certificate expires is closed at once. 0 means never.
// Default DefaultConnectionAge.
func WithConnectionAge(age time.Duration) Option { return func(s *settings) { s.connectionAge = age } }

// WithCallerStarts limits how many sagas one caller may start per second, by any of its calls, and as many at once. A
// caller is the principal of its certificate or token, or else its host. Starts of children don't count. One more is
// refused with RESOURCE_EXHAUSTED, and isn't recorded. 0 means any number. Default 0.
func WithCallerStarts(perSecond float64) Option {
	return func(s *settings) { s.callerStarts = perSecond }
}

func (l *StreamLimits) register(set *pflag.FlagSet) {
	set.IntVar(&l.PerCaller, "caller-streams", DefaultCallerStreams,
		"the `NUMBER` of streams, of events or of the changes of a saga, that one caller may have open")
	set.IntVar(&l.Total, "total-streams", DefaultTotalStreams,
		"the `NUMBER` of streams that all callers together may have open")
	set.DurationVar(&l.StalledAfter, "stalled-after", DefaultStalledAfter,
		"end a stream whose reader takes nothing for this `TIME`, although something was sent to it")
}

func (s *settings) checkStreams() error {
	if s.eventLimit < 0 {
		return fmt.Errorf("the limit of stored events is %d: want 0, which means any number, or more", s.eventLimit)
	}
	if s.connectionAge < 0 {
		return fmt.Errorf("the age of connections is %v: want 0, which means any, or more", s.connectionAge)
	}
	if s.callerStarts < 0 || math.IsNaN(s.callerStarts) {
		return fmt.Errorf("the limit of the sagas that a caller starts per second is %v: want 0, which means any "+
			"number, or more", s.callerStarts)
	}
	l := s.streams
	if l.PerCaller < 0 || l.Total < 0 || l.StalledAfter < 0 {
		return fmt.Errorf("the limits of streams are %d for each caller, %d in total and %v: none may be negative",
			l.PerCaller, l.Total, l.StalledAfter)
	}
	return nil
}

func (l StreamLimits) quota() quota.Limits {
	return quota.Limits{Streams: l.PerCaller, TotalStreams: l.Total, StalledAfter: l.StalledAfter}
}
