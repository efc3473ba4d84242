package dispatch

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
)

// attemptUntilDone does what the engine does: asks, waits while parked, calls, and asks again. Without a wait between the attempts, so
// that the breaker alone holds it back.
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
		if d.Attempt(t.Context(), attempt()).Outcome == treatyv1.Outcome_OUTCOME_DONE {
			return attempts
		}
	}
}

// A participant is killed under load and comes back on the same port: the commands wait and are then all done.
func TestParticipantIsKilledAndComesBack(t *testing.T) {
	expectNoLeak(t)
	s := serve(t, "", echo)
	d := dispatcher(t, s.addr)
	if result := d.Attempt(t.Context(), attempt()); result.Outcome != treatyv1.Outcome_OUTCOME_DONE {
		t.Fatalf("got %v", result)
	}
	s.Stop()

	const sagas = 200
	var all sync.WaitGroup
	var attempts atomic.Int64
	for range sagas {
		all.Go(func() { attempts.Add(int64(attemptUntilDone(t, d))) })
	}
	for d.participants[0].breaker.parkedNow() < sagas {
		// All of them find out and park; nothing else can make this loop end.
		if t.Context().Err() != nil {
			t.Fatal("not everybody parked")
		}
	}
	during := attempts.Load()
	serve(t, s.addr, echo)
	all.Wait()
	if during != 0 {
		t.Errorf("%d sagas were done without a participant", during)
	}
	t.Logf("%d attempts for %d sagas over an outage", attempts.Load(), sagas)
	if attempts.Load() > 10*sagas {
		t.Errorf("%d attempts for %d sagas: the breaker holds nobody back", attempts.Load(), sagas)
	}
}

// A participant that isn't there when it is first called parks the command after one attempt.
func TestParticipantIsNotThereYet(t *testing.T) {
	expectNoLeak(t)
	s := serve(t, "", echo)
	s.Stop()
	d := dispatcher(t, s.addr)
	result := d.Attempt(t.Context(), attempt())
	if result.Outcome != treatyv1.Outcome_OUTCOME_UNKNOWN || codes.Code(result.Failure.GetCode()) != codes.Unavailable {
		t.Fatalf("got %v", result)
	}
	woken := make(chan struct{})
	if _, parked := d.Parked(engine.Destination{Method: testMethod}, func() { close(woken) }); !parked {
		t.Fatal("not parked after a refused connection")
	}
	serve(t, s.addr, echo)
	<-woken
	if result := d.Attempt(t.Context(), attempt()); result.Outcome != treatyv1.Outcome_OUTCOME_DONE {
		t.Fatalf("got %v", result)
	}
}

// A process that is up but answers UNAVAILABLE is left alone as well.
func TestParticipantSaysUnavailable(t *testing.T) {
	expectNoLeak(t)
	var down atomic.Bool
	var calls atomic.Int64
	down.Store(true)
	s := serve(t, "", func(_ context.Context, request []byte) ([]byte, error) {
		calls.Add(1)
		if down.Load() {
			return nil, status.Error(codes.Unavailable, "my database is down")
		}
		return request, nil
	})
	d := dispatcher(t, s.addr)
	woken := make(chan struct{})
	for calls.Load() < 4*DefaultBreakAfter {
		if _, parked := d.Parked(engine.Destination{Method: testMethod}, func() { close(woken) }); parked {
			break
		}
		d.Attempt(t.Context(), attempt())
	}
	if calls.Load() >= 4*DefaultBreakAfter {
		t.Fatalf("not parked after %d calls", calls.Load())
	}
	<-woken // the probe
	down.Store(false)
	if attempts := attemptUntilDone(t, d); attempts > 2 {
		t.Errorf("%d attempts after it was up again", attempts)
	}
}
