package dispatch

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
)

// health is what the end of a call says about its participant.
type health int

const (
	// answered: the participant answered, and not with UNAVAILABLE.
	answered health = iota

	// cancelled: the orchestrator cancelled the call, which says nothing.
	cancelled

	// timedOut: the call was sent, but no answer came in time.
	timedOut

	// silent: as timedOut, and no call of any method has been answered for a while.
	silent

	// unavailable: the participant answered UNAVAILABLE.
	unavailable

	// unsent: the call was never sent, but there is a connection now or may be one soon.
	unsent

	// cut: the call was sent, and its connection broke or its stream was reset. The participant may be up: servers and
	// balancers close connections that are old.
	cut

	// disconnected: there is no connection.
	disconnected
)

// String returns why a breaker opens.
func (h health) String() string {
	switch h {
	case silent:
		return "no call was answered in time"
	case unavailable:
		return "it answers UNAVAILABLE"
	case unsent:
		return "no connection takes commands"
	case cut:
		return "its connections break"
	case disconnected:
		return "there is no connection"
	default:
		return "none"
	}
}

// healthOf returns what a failed call says about the participant.
func (p *participant) healthOf(ctx context.Context, x *exchange, code codes.Code) health {
	sent := x.sendings.Load() > 0
	switch {
	case ctx.Err() != nil:
		return cancelled
	case code != codes.Unavailable && code != codes.DeadlineExceeded:
		return answered
	case sent && code == codes.DeadlineExceeded:
		return timedOut
	case sent && x.answered.Load():
		return unavailable
	case sent:
		return cut
	}
	switch p.conn.GetState() {
	case connectivity.Ready:
		return unsent
	case connectivity.Idle, connectivity.Connecting:
		if code == codes.DeadlineExceeded {
			return unsent
		}
	}
	return disconnected
}

// beginning is what a call remembers of its beginning.
type beginning struct {
	generation generation

	// answers and ofMethod are how many calls of the participant and of the method had been answered.
	answers, ofMethod uint64
}

// begin returns what a call passes to end.
func (p *participant) begin(m *method) beginning {
	return beginning{p.breaker.begin(), p.silence.begin(), m.begin()}
}

// end takes note of how a call ended that waited for an answer for the given time, if it wasn't answered. Whatever
// judges a participant by its calls learns of them here.
func (p *participant) end(m *method, b beginning, h health, waited time.Duration) {
	switch h {
	case answered, unavailable:
		p.silence.answered()
		m.answered()
		if m.limited.Load() {
			p.unlimit(m)
		}
	case timedOut:
		now := time.Now()
		lasts, alone := p.silence.unanswered(b.answers, waited, p.silentAfter, now)
		if lasts {
			h = silent
		}
		if alone {
			if lasts, _ := m.unanswered(b.ofMethod, waited, p.silentAfter, now); lasts {
				p.limit(m)
			}
		}
	}
	p.breaker.end(b.generation, h)
}

// limit lets one call of a method be made at a time.
func (p *participant) limit(m *method) {
	if !m.limited.Swap(true) {
		p.credit.logger.Warn("a method of a participant doesn't answer in time, while others do: one call of it is "+
			"made at a time until one is answered", "participant", p.name, "target", p.target, "method", m.name)
	}
}

func (p *participant) unlimit(m *method) {
	if m.limited.Swap(false) {
		p.credit.logger.Info("a method of a participant answers again", "participant", p.name, "target", p.target,
			"method", m.name)
	}
}
