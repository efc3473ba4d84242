package dispatch

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/treatyhq/treaty/orchestrator/internal/admission"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
)

// waitingCalls returns how many calls wait for the only participant.
func waitingCalls(d *Dispatcher) int {
	return d.participants[0].admission.State().Waiting
}

// waits returns whether a command has to wait for its participant.
func waits(d *Dispatcher, to engine.Destination) bool {
	slot, wait := d.Admit(to, attempt().Call, admission.Claim{}, (*admission.Slot).Release)
	slot.Release()
	if wait != nil {
		wait.Cancel()
	}
	return wait != nil
}

// admit returns a channel on which the slot for a command arrives.
func admit(d *Dispatcher) <-chan *admission.Slot {
	granted := make(chan *admission.Slot, 1)
	slot, wait := d.Admit(destination(""), attempt().Call, admission.Claim{}, func(slot *admission.Slot) {
		granted <- slot
	})
	if wait == nil {
		granted <- slot
	}
	return granted
}

// attemptUntilDone does what the engine does: it waits while the breaker is open, makes an attempt, and starts over.
// It doesn't wait between attempts, so only the breaker holds it back.
func attemptUntilDone(t *testing.T, d *Dispatcher) (attempts int) {
	for {
		call := attempt()
		select {
		case call.Slot = <-admit(d):
		case <-t.Context().Done():
			return attempts
		}
		attempts++
		if d.Attempt(t.Context(), call).Outcome == outcomeDone {
			return attempts
		}
	}
}

// A participant is killed under load and restarted on the same port: the commands wait and are then all done.
func TestParticipantIsKilledAndRestarted(t *testing.T) {
	expectNoLeak(t)
	s := serve(t, anyPort, echo)
	d := dispatcher(t, s.addr)
	if result := d.Attempt(t.Context(), attempt()); result.Outcome != outcomeDone {
		t.Fatalf("got %v", result)
	}
	s.Stop()

	const sagas = 200
	var all sync.WaitGroup
	var attempts atomic.Int64
	for range sagas {
		all.Go(func() { attempts.Add(int64(attemptUntilDone(t, d))) })
	}
	for waitingCalls(d) < sagas {
		if t.Context().Err() != nil {
			t.Fatal("not all sagas wait")
		}
	}
	during := attempts.Load()
	serve(t, s.addr, echo)
	all.Wait()
	if during != 0 {
		t.Errorf("%d sagas were done while the participant was down", during)
	}
	t.Logf("%d attempts for %d sagas over an outage", attempts.Load(), sagas)
	if attempts.Load() > 10*sagas {
		t.Errorf("%d attempts for %d sagas: the breaker doesn't hold them back", attempts.Load(), sagas)
	}
}

// When a participant isn't up at its first call, the command waits after one attempt.
func TestParticipantIsNotUpYet(t *testing.T) {
	expectNoLeak(t)
	s := serve(t, anyPort, echo)
	s.Stop()
	d := dispatcher(t, s.addr)
	result := d.Attempt(t.Context(), attempt())
	if result.Outcome != outcomeUnknown || codes.Code(result.Failure.GetCode()) != codes.Unavailable {
		t.Fatalf("got %v", result)
	}
	granted := admit(d)
	if waitingCalls(d) != 1 {
		t.Fatal("the breaker is closed after a refused connection")
	}
	serve(t, s.addr, echo)
	call := attempt()
	call.Slot = <-granted
	if result := d.Attempt(t.Context(), call); result.Outcome != outcomeDone {
		t.Fatalf("got %v", result)
	}
}

// The breaker also opens for a process that runs and answers UNAVAILABLE.
func TestParticipantIsUnavailable(t *testing.T) {
	expectNoLeak(t)
	var down atomic.Bool
	var calls atomic.Int64
	down.Store(true)
	s := serve(t, anyPort, func(_ context.Context, request []byte) ([]byte, error) {
		calls.Add(1)
		if down.Load() {
			return nil, status.Error(codes.Unavailable, "the database is down")
		}
		return request, nil
	})
	d := dispatcher(t, s.addr)
	for calls.Load() < 4*defaultBreakAfter && !waits(d, destination("")) {
		d.Attempt(t.Context(), attempt())
	}
	if calls.Load() >= 4*defaultBreakAfter {
		t.Fatalf("the breaker is closed after %d calls", calls.Load())
	}
	slot := <-admit(d) // the probe
	down.Store(false)
	slot.Release()
	if attempts := attemptUntilDone(t, d); attempts > 2 {
		t.Errorf("%d attempts after it was available again", attempts)
	}
}
