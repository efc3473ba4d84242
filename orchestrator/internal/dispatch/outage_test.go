package dispatch

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/treatyhq/treaty/orchestrator/internal/engine"
)

// waitingCalls returns how many calls wait for the only participant.
func waitingCalls(d *Dispatcher) int {
	b := d.participants[0].breaker
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiting.len
}

// attemptUntilDone does what the engine does: it waits while the breaker is open, makes an attempt, and starts over.
// It doesn't wait between attempts, so only the breaker holds it back.
func attemptUntilDone(t *testing.T, d *Dispatcher) (attempts int) {
	for {
		woken := make(chan struct{})
		if _, parked := d.Parked(engine.Destination{Method: testMethod}, func() { close(woken) }); parked {
			select {
			case <-woken:
			case <-t.Context().Done():
				return attempts
			}
			continue
		}
		attempts++
		if d.Attempt(t.Context(), attempt()).Outcome == outcomeDone {
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
	woken := make(chan struct{})
	if _, parked := d.Parked(engine.Destination{Method: testMethod}, func() { close(woken) }); !parked {
		t.Fatal("the breaker is closed after a refused connection")
	}
	serve(t, s.addr, echo)
	<-woken
	if result := d.Attempt(t.Context(), attempt()); result.Outcome != outcomeDone {
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
	woken := make(chan struct{})
	for calls.Load() < 4*defaultBreakAfter {
		if _, parked := d.Parked(engine.Destination{Method: testMethod}, func() { close(woken) }); parked {
			break
		}
		d.Attempt(t.Context(), attempt())
	}
	if calls.Load() >= 4*defaultBreakAfter {
		t.Fatalf("the breaker is closed after %d calls", calls.Load())
	}
	<-woken // the probe
	down.Store(false)
	if attempts := attemptUntilDone(t, d); attempts > 2 {
		t.Errorf("%d attempts after it was available again", attempts)
	}
}
