package engine_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	benchv1 "github.com/treatyhq/treaty/gen/bench/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

const (
	stuck    = treatyv1.SuspensionReason_SUSPENSION_REASON_STUCK
	panicked = treatyv1.SuspensionReason_SUSPENSION_REASON_PANIC
	broken   = treatyv1.SuspensionReason_SUSPENSION_REASON_RULE
)

// goroutines counts the goroutines that were left behind.
type goroutines struct {
	engine.NoObserver

	left, ended atomic.Int64
}

func (g *goroutines) CodeLeft()  { g.left.Add(1) }
func (g *goroutines) CodeEnded() { g.ended.Add(1) }

// misbehaves registers code that runs instead of the usual one for requests with no steps.
func (w *fixture) misbehaves(code func(ctx saga.Context) error) {
	saga.Register(w.code, benchv1.WorkSagas_Run_FullMethodName,
		func(ctx saga.Context, in *benchv1.RunRequest) (*benchv1.RunDone, error) {
			if in.GetSteps() > 0 {
				return run(ctx, in)
			}
			return &benchv1.RunDone{}, code(ctx)
		})
}

// wantSuspended waits until a saga is suspended, and checks why.
func (w *fixture) wantSuspended(id string, reason treatyv1.SuspensionReason, message string) {
	w.t.Helper()
	watch := w.engine.Watch(id)
	defer watch.Close()
	for {
		view, err := watch.Next(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		if got := view.Saga; got.GetState() == suspended {
			if s := got.GetSuspension(); s.GetReason() != reason || !strings.Contains(s.GetMessage(), message) {
				w.t.Errorf("suspended for %v: %q, want %v with %q", s.GetReason(), s.GetMessage(), reason, message)
			}
			return
		}
	}
}

// TestCodeThatBlocks runs code that blocks in all sorts of ways. The saga is suspended with the place where its code
// stands; other sagas continue; it can be cancelled, and resumed after a fix. When the code continues after all, its
// goroutine ends without touching anything.
func TestCodeThatBlocks(t *testing.T) {
	var goOn chan struct{}
	var spins atomic.Bool
	for name, test := range map[string]struct {
		code func(ctx saga.Context) error
		at   string
	}{
		"a channel": {func(saga.Context) error {
			<-goOn
			return nil
		}, "(chan receive"},
		"a lock around commands in two branches": {func(ctx saga.Context) error {
			var mu sync.Mutex
			branch := func(ctx saga.Context) error {
				mu.Lock()
				defer mu.Unlock()
				return work(ctx, 1)
			}
			return saga.All(ctx, branch, branch)
		}, "(sync.Mutex.Lock"},
		"a loop": {func(saga.Context) error {
			for i := 0; spins.Load(); i++ {
				_ = i
			}
			return nil
		}, "watchdog_test.go"},
		"a loop that uses the Context": {func(ctx saga.Context) error {
			for spins.Load() {
				saga.NewID(ctx)
				saga.SetProgress(ctx, &benchv1.RunDone{})
			}
			return nil
		}, "watchdog_test.go"},
		"a loop that recovers from everything": {func(ctx saga.Context) error {
			for spins.Load() {
				func() {
					defer func() { _ = recover() }()
					saga.Now(ctx)
					runtime.Gosched()
				}()
			}
			return nil
		}, "watchdog_test.go"},
		"a loop of scopes": {func(ctx saga.Context) error {
			for spins.Load() {
				if err := saga.Try(ctx, func(saga.Context) error { return nil }); err != nil {
					return err
				}
			}
			return nil
		}, "the saga's code blocked"},
	} {
		t.Run(name, func(t *testing.T) {
			goOn = make(chan struct{})
			spins.Store(true)
			count := new(goroutines)
			w := newFixture(t)
			w.stop()
			w.turnLimit, w.observer = 100*time.Millisecond, count
			var fixed atomic.Bool
			w.misbehaves(func(ctx saga.Context) error {
				if fixed.Load() {
					return nil
				}
				return test.code(ctx)
			})
			w.open()
			one, two := w.start(0), w.start(0)
			if got := w.await(w.start(2).ID); got != succeeded {
				t.Errorf("another saga: %v", got)
			}
			w.wantSuspended(one.ID, stuck, test.at)
			w.wantSuspended(two.ID, stuck, "")
			if err := w.engine.Cancel(t.Context(), one.ID, byAnn); err != nil {
				t.Errorf("cancelling it: %v", err)
			}
			if got := w.await(one.ID); got != compensated {
				t.Errorf("cancelled, it is %v", got)
			}
			fixed.Store(true)
			if err := w.engine.Resume(t.Context(), two.ID, engine.ResumeParams{Action: machine.Retry}); err != nil {
				t.Errorf("resuming the other: %v", err)
			}
			if got := w.await(two.ID); got != succeeded {
				t.Errorf("resumed, it is %v", got)
			}
			left := count.left.Load()
			if want := int64(2); left != want && name != "a loop of scopes" {
				t.Errorf("%d goroutines were left behind, want %d", left, want)
			}
			close(goOn)
			spins.Store(false)
			for count.ended.Load() < left {
				runtime.Gosched()
			}
		})
	}
}

// TestCodeThatIsSlow runs code that takes long, but less than the limit, in each turn.
func TestCodeThatIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		w.misbehaves(func(ctx saga.Context) error {
			for i := range 5 {
				pass(engine.DefaultTurnLimit)
				if err := work(ctx, int32(i)); err != nil {
					return err
				}
			}
			return nil
		})
		if got := w.await(w.start(0).ID); got != succeeded {
			t.Errorf("it is %v", got)
		}
	})
}

// TestDeferredCodeThatBlocks cancels, evicts and stops sagas whose deferred functions block. Nobody waits for them for
// longer than the limit.
func TestDeferredCodeThatBlocks(t *testing.T) {
	goOn := make(chan struct{})
	defer close(goOn)
	count := new(goroutines)
	w := newFixture(t)
	w.stop()
	w.turnLimit, w.observer = 50*time.Millisecond, count
	w.misbehaves(func(ctx saga.Context) error {
		defer func() { <-goOn }()
		return work(ctx, 1)
	})
	w.open()
	release := w.participant.stall("action 1")
	defer release()
	cancelled, loaded := w.start(0), w.start(0)
	<-w.participant.held
	<-w.participant.held
	if err := w.engine.Cancel(t.Context(), cancelled.ID, byAnn); err != nil {
		t.Fatal(err)
	}
	w.stop()
	if left := count.left.Load(); left != 2 {
		t.Errorf("%d goroutines were left behind, want 2", left)
	}
	if row, err := w.store.Get(t.Context(), loaded.ID); err != nil ||
		row.State != treatyv1.SagaState_SAGA_STATE_RUNNING {
		t.Errorf("a saga that was only closed: %v, %v", row, err)
	}
	w.misbehaves(func(ctx saga.Context) error { return work(ctx, 1) })
	release()
	w.open()
	if got := w.await(loaded.ID); got != succeeded {
		t.Errorf("after a restart it is %v", got)
	}
}

// TestStopDoesNotWaitForCode stops the engine while code blocks and its limit is far away. What the code did in that
// turn doesn't count: the next process runs it again.
func TestStopDoesNotWaitForCode(t *testing.T) {
	goOn := make(chan struct{})
	defer close(goOn)
	w := newFixture(t)
	w.stop()
	w.turnLimit = 10 * time.Second
	blocks := make(chan struct{})
	w.misbehaves(func(ctx saga.Context) error {
		if err := work(ctx, 1); err != nil {
			return err
		}
		close(blocks)
		<-goOn
		return nil
	})
	w.open()
	handle := w.start(0)
	<-blocks
	began := time.Now()
	w.stop()
	if took := time.Since(began); took > w.turnLimit {
		t.Errorf("stopping took %v", took)
	}
	w.misbehaves(func(ctx saga.Context) error { return work(ctx, 1) })
	w.open()
	if got := w.await(handle.ID); got != succeeded {
		t.Errorf("after a restart it is %v", got)
	}
}

// TestRecoveryDoesNotWaitForCode starts a build whose code blocks at once, with more open sagas than are loaded at a
// time. Verifying lists them all, and recovery ends although their limit is far away. Suspended, they can be cancelled
// without running their code again.
func TestRecoveryDoesNotWaitForCode(t *testing.T) {
	const sagas = 150
	goOn := make(chan struct{})
	count := new(goroutines)
	w := newFixture(t)
	w.observer = count
	w.misbehaves(func(ctx saga.Context) error {
		saga.Sleep(ctx, time.Hour)
		return work(ctx, 1)
	})
	w.participant.down()
	var ids []string
	for range sagas {
		ids = append(ids, w.start(1).ID)
	}
	w.stop()

	var runs atomic.Int64
	saga.Register(w.code, benchv1.WorkSagas_Run_FullMethodName,
		func(saga.Context, *benchv1.RunRequest) (*benchv1.RunDone, error) {
			runs.Add(1)
			<-goOn
			return &benchv1.RunDone{}, nil
		})
	found := make(map[string]int)
	limit := 300 * time.Millisecond
	n, err := engine.Verify(t.Context(), engine.VerifyParams{
		Store: w.store, Catalog: w.catalog, Definitions: w.code, TurnLimit: limit,
		Report: w.report(found),
	})
	if err != nil || n != sagas || len(found) != 1 || found["code that blocks at watchdog_test.go"] != sagas {
		t.Errorf("verified %d: %v, %v", n, found, err)
	}

	w.turnLimit = time.Hour
	w.open() // it recovers
	w.stop()
	if row, err := w.store.Get(t.Context(), ids[0]); err != nil ||
		row.State != treatyv1.SagaState_SAGA_STATE_RUNNING {
		t.Errorf("after a stop: %v, %v", row, err)
	}

	w.turnLimit = limit
	w.open()
	for _, id := range ids {
		w.wantSuspended(id, stuck, "before its first step")
	}
	ran := runs.Load()
	for _, id := range ids[:10] {
		if err := w.engine.Cancel(t.Context(), id, byAnn); err != nil {
			t.Error(err)
		}
	}
	if again := runs.Load(); again != ran {
		t.Errorf("the code ran %d times again to be cancelled", again-ran)
	}
	close(goOn)
	for count.ended.Load() < count.left.Load() {
		runtime.Gosched()
	}
}

// TestVerifyEndsWithItsContext ends a verification while code blocks.
func TestVerifyEndsWithItsContext(t *testing.T) {
	goOn := make(chan struct{})
	defer close(goOn)
	w := newFixture(t)
	w.participant.down()
	w.start(1)
	w.stop()
	ctx, cancel := context.WithCancel(t.Context())
	code := make(registrar)
	saga.Register(code, benchv1.WorkSagas_Run_FullMethodName,
		func(saga.Context, *benchv1.RunRequest) (*benchv1.RunDone, error) {
			cancel()
			<-goOn
			return &benchv1.RunDone{}, nil
		})
	_, err := engine.Verify(ctx, engine.VerifyParams{
		Store: w.store, Catalog: w.catalog, Definitions: code, TurnLimit: time.Hour, Report: w.report(nil),
	})
	if err == nil {
		t.Error("it ended without an error")
	}
}

// TestCommandsFromGoroutines runs code that sends commands from goroutines that it starts itself, while the code waits
// for them, and after it has ended. Nothing is sent, each gets an error, and the saga is suspended, also after a
// restart.
func TestCommandsFromGoroutines(t *testing.T) {
	for name, code := range map[string]func(ctx saga.Context, errs chan<- error) error{
		"two at a time": func(ctx saga.Context, errs chan<- error) error {
			done := make(chan error)
			for range 2 {
				go func() { done <- work(ctx, 1) }()
			}
			first, second := <-done, <-done
			errs <- first
			errs <- second
			return first
		},
		"next to a command": func(ctx saga.Context, errs chan<- error) error {
			sent := make(chan struct{})
			go func() {
				errs <- work(ctx, 1)
				close(sent)
			}()
			<-sent
			return work(ctx, 2)
		},
		"while the saga waits": func(ctx saga.Context, errs chan<- error) error {
			go func() { errs <- work(ctx, 1) }()
			saga.Sleep(ctx, time.Hour)
			return nil
		},
		"scopes and branches": func(ctx saga.Context, errs chan<- error) error {
			done := make(chan struct{})
			go func() {
				defer close(done)
				errs <- saga.Try(ctx, func(saga.Context) error { return nil })
				errs <- saga.All(ctx, func(saga.Context) error { return nil })
				saga.Sleep(ctx, time.Hour) // ends the goroutine
				errs <- nil
			}()
			<-done
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			errs := make(chan error, 100)
			w := newFixture(t)
			w.misbehaves(func(ctx saga.Context) error { return code(ctx, errs) })
			handle := w.start(0)
			const says = "a Context was used on another goroutine than the one that received it"
			w.wantSuspended(handle.ID, panicked, says)
			if message := w.get(handle.ID).GetSuspension().GetMessage(); !strings.Contains(message,
				"(at watchdog_test.go:") && !strings.Contains(message, "(at language_test.go:") {
				t.Errorf("it doesn't say where: %q", message)
			}
			if err := <-errs; err == nil || !strings.Contains(err.Error(), says) ||
				!strings.Contains(err.Error(), "sagas/"+handle.ID) {
				t.Errorf("the goroutine got %v", err)
			}
			if err := w.engine.Resume(t.Context(), handle.ID,
				engine.ResumeParams{Action: machine.Retry}); err != nil {
				t.Fatal(err)
			}
			w.wantSuspended(handle.ID, panicked, says)
			w.stop()
			w.open()
			if got := w.await(w.start(1).ID); got != succeeded {
				t.Errorf("another saga: %v", got)
			}
			if seen := w.participant.seen(); len(seen) != 1 {
				t.Errorf("it sent %v", seen)
			}
			for len(errs) > 0 {
				if <-errs == nil {
					t.Error("a goroutine got no error")
				}
			}
		})
	}
}

// TestCommandAfterTheEnd sends a command from a goroutine after its saga has ended.
func TestCommandAfterTheEnd(t *testing.T) {
	w := newFixture(t)
	ended, got := make(chan struct{}), make(chan error)
	w.misbehaves(func(ctx saga.Context) error {
		go func() {
			<-ended
			got <- work(ctx, 1)
		}()
		return nil
	})
	handle := w.start(0)
	if state := w.await(handle.ID); state != succeeded {
		t.Fatal(state)
	}
	close(ended)
	if err := <-got; err == nil {
		t.Error("it got no error")
	}
	if got := w.get(handle.ID); got.GetState() != succeeded || len(w.participant.seen()) != 0 {
		t.Errorf("it is %v, and sent %v", got.GetState(), w.participant.seen())
	}
}

// TestContextOfAnotherSaga runs sagas that share a Context in a variable, at the same time. Each that uses another
// one's is suspended; none of the commands goes to the wrong saga.
func TestContextOfAnotherSaga(t *testing.T) {
	w := newFixture(t)
	var shared atomic.Pointer[saga.Context]
	var owner atomic.Int64
	w.misbehaves(func(ctx saga.Context) error {
		me := owner.Add(1)
		shared.Store(&ctx)
		for range 100 {
			runtime.Gosched()
			if err := work(*shared.Load(), int32(me)); err != nil {
				return err
			}
		}
		return nil
	})
	var sagas sync.WaitGroup
	for range 20 {
		sagas.Go(func() {
			handle, err := w.engine.Start(t.Context(),
				engine.StartParams{Definition: definition, Request: request(t, 0)})
			if err != nil {
				t.Error(err)
				return
			}
			watch := w.engine.Watch(handle.ID)
			defer watch.Close()
			for {
				view, err := watch.Next(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				switch got := view.Saga; got.GetState() {
				case succeeded:
					return
				case suspended:
					if reason := got.GetSuspension().GetReason(); reason != panicked {
						t.Errorf("suspended for %v: %s", reason, got.GetSuspension().GetMessage())
					}
					return
				}
			}
		})
	}
	sagas.Wait()
}

// report counts what a verification finds, without the numbers of lines.
func (w *fixture) report(found map[string]int) func(*journal.Row, *treatyv1.SagaSuspended) {
	return func(_ *journal.Row, wrong *treatyv1.SagaSuspended) {
		what, _, _ := strings.Cut(wrong.GetFound(), ".go:")
		found[fmt.Sprint(what, ".go")]++
	}
}
