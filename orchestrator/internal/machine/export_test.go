package machine

import (
	"fmt"
	"strings"
)

// Code describes where the saga's code stands: its threads and scopes. A machine that read the journal anew must come to the same.
func (m *Machine) Code() string {
	p := m.program
	if p == nil {
		return "no code"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "ended %v, restart %v, panicked %q, newer %v, unawaited %v\n", p.main.ended, p.restart != nil, p.panicked, p.versionMismatch != nil, p.stoppedWaits)
	for _, t := range p.waiting {
		fmt.Fprintf(&b, "thread %q: %s, intended %v, stopping %v\n", t.path, t.describe(), t.scheduled, t.stopping)
	}
	for _, s := range p.scopes {
		fmt.Fprintf(&b, "scope %s: begun %d, live %d, failed %d, expired %v, stopping %v, opened %v until %v, ended %v, decided %v\n",
			s.path, s.begun, s.live, s.failed, s.expired, s.stopping, s.opened, s.deadline, s.ended, s.decided)
	}
	return b.String()
}

// Limits that tests exceed.
const (
	MaxSteps      = maxSteps
	MaxWaitEvents = maxWaitEvents
)

// PayloadBytes returns the bytes that count towards the longest history.
func (s *Saga) PayloadBytes() int { return s.payloadBytes }
