package machine

import (
	"fmt"
	"strings"
)

// DescribeCode describes the state of the saga's code: its threads and scopes. It must be the same after a replay.
func (m *Machine) DescribeCode() string {
	p := m.program
	if p == nil {
		return "no code"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "ended %v, restart %v, panicked %q, version mismatch %v, stopped waits %v\n",
		p.main.ended, p.restart != nil, p.panicked, p.versionMismatch != nil, p.stoppedWaits)
	for _, t := range p.waiting {
		fmt.Fprintf(&b, "thread %q: %s, scheduled %v, stopping %v\n", t.path, t.describe(), t.scheduled, t.stopping)
	}
	for _, s := range p.scopes {
		fmt.Fprintf(&b,
			"scope %s: started %d, live %d, failed %d, expired %v, stopping %v, opened %v until %v, ended %v, "+
				"decided %v\n",
			s.path, s.started, s.live, s.failed, s.expired, s.stopping, s.opened, s.deadline, s.ended, s.decided)
	}
	return b.String()
}

// Limits that tests exceed.
const (
	MaxSteps      = maxSteps
	MaxWaitEvents = maxWaitEvents
)

// PayloadBytes returns the size of the requests, replies, events and progress in the journal.
func (s *Saga) PayloadBytes() int { return s.payloadBytes }
