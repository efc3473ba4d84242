package dispatch

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Answers says what may be believed of a participant's answers.
type Answers int

const (
	// AnswersAuto finds it out: a participant that has ever marked an answer is proven for good, and one that doesn't
	// know treaty.v1.ParticipantService is plain. It is the default.
	AnswersAuto Answers = iota

	// AnswersProven says that the participant marks its answers. What isn't marked comes from somebody else.
	AnswersProven

	// AnswersPlain says that the participant marks nothing. Its errors are believed if they come as gRPC.
	AnswersPlain

	// AnswersSettled says that the participant marks nothing, and that all of its refusals come from an inbox, so that
	// they hold for every attempt.
	AnswersSettled

	// AnswersRepeated says that something in between repeats calls, so that every refusal leaves a doubt.
	AnswersRepeated
)

// Memory is what the dispatcher remembers about participants over restarts. All methods may be called concurrently.
type Memory interface {
	// Proven returns whether a service's participant was ever proven.
	Proven(service string) bool

	// SetProven remembers durably that the participant of services is proven.
	SetProven(ctx context.Context, services []string) error

	// SetHorizon remembers durably which horizon the participant of services was told.
	SetHorizon(ctx context.Context, services []string, horizon time.Time) error
}

// standing is what is known of whether a participant marks its answers.
type standing int32

const (
	// standingOpen: it isn't known yet. What isn't marked isn't believed.
	standingOpen standing = iota
	standingProven
	standingPlain
)

// credit holds whether a participant marks its answers.
type credit struct {
	services []string
	target   string
	answers  Answers
	memory   Memory // nil remembers nothing
	logger   *slog.Logger

	standing atomic.Int32

	stored atomic.Bool // proven, and remembered as such

	mu       sync.Mutex
	warnings map[codes.Code]time.Time
}

// warnInterval is how often a warning about unmarked answers is repeated for each code.
const warnInterval = 10 * time.Minute

func newCredit(p Participant, memory Memory, greets bool, logger *slog.Logger) *credit {
	c := &credit{
		services: p.Services, target: p.Target, answers: p.Answers, memory: memory, logger: logger,
		warnings: make(map[codes.Code]time.Time),
	}
	switch p.Answers {
	case AnswersProven:
		c.standing.Store(int32(standingProven))
	case AnswersPlain, AnswersSettled:
		c.standing.Store(int32(standingPlain))
	default:
		for _, service := range p.Services {
			if memory != nil && memory.Proven(service) {
				c.stored.Store(true)
				c.standing.Store(int32(standingProven))
			}
		}
		if !greets && !c.stored.Load() {
			c.standing.Store(int32(standingPlain)) // nobody asks it
		}
	}
	return c
}

// declared returns whether the configuration says what may be believed.
func (c *credit) declared() bool { return c.answers != AnswersAuto && c.answers != AnswersRepeated }

// isPlain returns whether the participant marks nothing.
func (c *credit) isPlain() bool { return standing(c.standing.Load()) == standingPlain }

// isProven returns whether the participant marks its answers.
func (c *credit) isProven() bool { return standing(c.standing.Load()) == standingProven }

// prove records that the participant has marked an answer. It remembers that before it returns.
func (c *credit) prove() {
	if c.stored.Load() || c.declared() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.standing.Store(int32(standingProven))
	if c.stored.Load() || c.memory == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := c.memory.SetProven(ctx, c.services); err != nil {
		c.logger.Error("storing that a participant marks its answers failed; trying again with its next answer",
			"participant", c.services[0], "error", err)
		return
	}
	c.stored.Store(true)
}

// plain records that the participant doesn't know treaty.v1.ParticipantService, unless it is known to mark its answers.
func (c *credit) plain() {
	if !c.declared() && c.standing.CompareAndSwap(int32(standingOpen), int32(standingPlain)) {
		c.logger.Info("a participant doesn't mark its answers: its errors are believed if they come as gRPC",
			"participant", c.services[0], "target", c.target)
	}
}

// warnUnmarked logs that something in between has answered in the participant's name.
func (c *credit) warnUnmarked(st *status.Status) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if last, warned := c.warnings[st.Code()]; warned && now.Sub(last) < warnInterval {
		return
	}
	c.warnings[st.Code()] = now
	c.logger.Warn("something between here and a participant has answered in its name, so the command is in doubt and "+
		"is sent again: look at the proxies and load balancers on the way; if there are none, the participant's "+
		"library is an older one, and can be declared as such",
		"participant", c.services[0], "target", c.target, "code", st.Code().String(), "message", truncate(st.Message()))
}
