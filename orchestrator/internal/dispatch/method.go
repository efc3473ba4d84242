package dispatch

import (
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/admission"
	"github.com/treatyhq/treaty/orchestrator/internal/commandstream"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
)

// method is what is known of one method of a participant. While the method doesn't answer, but others do, one call of
// it is made at a time. All methods may be called concurrently.
type method struct {
	silence

	name   string
	limits *admission.Method

	// limited is set while one call is made at a time, and trying while that one is made.
	limited, trying atomic.Bool

	// unaryOn is the stream on which the participant said that it doesn't serve the method there.
	unaryOn atomic.Pointer[commandstream.Stream]

	// parked is why no command is sent: the participant has another contract. It is nil otherwise.
	parked atomic.Pointer[string]

	troubles troubles
}

// why returns why the method is parked, or "" if it isn't.
func (m *method) why() string {
	if reason := m.parked.Load(); reason != nil {
		return *reason
	}
	return ""
}

// waits is the answer to a command that isn't sent, since the method was parked after it was admitted.
func (m *method) waits(reason string) engine.Answer {
	return notSent(treatyv1.Outcome_OUTCOME_UNKNOWN, status.Newf(codes.Unavailable,
		"dispatch: command not sent: the contract of %s has drifted: %s", m.name, reason))
}

// enter returns whether a call may be made. trial says that it is the only one at a time; then the caller calls leave
// when it has ended.
func (m *method) enter() (trial, ok bool) {
	if !m.limited.Load() {
		return false, true
	}
	ok = m.trying.CompareAndSwap(false, true)
	return ok, ok
}

func (m *method) leave() { m.trying.Store(false) }

// held is the answer to a command that isn't sent, since its method doesn't answer and another call of it is being
// made. The command's clock for giving up goes on, since the participant is up.
func (m *method) held() engine.Answer {
	return notSent(treatyv1.Outcome_OUTCOME_UNKNOWN, status.Newf(codes.Unavailable,
		"dispatch: command not sent: calls of %s aren't answered in time, while the participant answers others, so "+
			"one at a time is made until one is answered: look at what the method waits for", m.name))
}

// method returns what is known of the method of a call.
func (p *participant) method(call *contract.CallConfig) *method {
	if m, ok := p.methods.Load(call.Method); ok {
		return m.(*method) //nolint:forcetypeassert // The map has no other values.
	}
	added := &method{name: call.Method}
	if call.OfSaga || call.CompleteWithin > 0 {
		added.limits = p.admission.NewHeldMethod()
	} else {
		added.limits = p.admission.NewMethod(call.Timeout)
	}
	stored, before := p.methods.LoadOrStore(call.Method, added)
	m := stored.(*method) //nolint:forcetypeassert // The map has no other values.
	if !before {
		p.contracts.adopt(func(reason string) { p.parkMethod(m, reason) }, m.name)
	}
	return m
}
