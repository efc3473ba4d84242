package saga_test

import (
	"bytes"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// tooLong makes a message that holds it larger than a payload may be.
var tooLong = strings.Repeat("x", machine.MaxPayloadBytes)

// TestCodeThatMisusesTheLanguage checks that mistakes which no rule can prevent have a defined result, the same after a
// crash.
func TestCodeThatMisusesTheLanguage(t *testing.T) {
	for _, test := range []struct {
		name   string
		code   body
		does   func(j *journal)
		state  treatyv1.SagaState
		reason string // in the suspension's message
	}{
		{
			name: "the Context of a stopped scope, used after the scope",
			code: func(ctx saga.Context, _ *request) (*agreed, error) {
				var mover saga.Context
				err := saga.Try(ctx, func(ctx saga.Context) error {
					mover = ctx
					_, err := change(ctx, "a")
					return err
				}, saga.Within(time.Minute))
				if errors.Is(err, saga.ErrDeadline) {
					_, err = change(mover, "b")
				}
				return &agreed{}, err
			},
			does: func(j *journal) {
				j.at(time.Hour)
				j.end("1.1.1", machine.Refused)
			},
			state: suspended, reason: "a Context was used outside of the function that received it",
		},
		{
			name: "the Context of a stopped branch, used after the branches",
			code: func(ctx saga.Context, _ *request) (*agreed, error) {
				var other saga.Context
				_ = saga.All(ctx,
					func(ctx saga.Context) error { other = ctx; saga.Sleep(ctx, time.Hour); return nil },
					func(ctx saga.Context) error { _, err := change(ctx, "a"); return err })
				_, err := change(other, "b")
				return &agreed{}, err
			},
			does:  func(j *journal) { j.end("1.2.1", machine.Refused) },
			state: suspended, reason: "a Context was used outside of the function that received it",
		},
		{
			name:  "a panic with text that isn't UTF-8",
			code:  func(saga.Context, *request) (*agreed, error) { panic("bad \xff") },
			state: suspended, reason: "bad \uFFFD",
		},
		{
			name: "an error with text that isn't UTF-8",
			code: func(saga.Context, *request) (*agreed, error) {
				return nil, errors.New("bad \xff")
			},
			state: treatyv1.SagaState_SAGA_STATE_COMPENSATED,
		},
		{
			name: "a scope's error with text that isn't UTF-8",
			code: func(ctx saga.Context, _ *request) (*agreed, error) {
				err := saga.Try(ctx, func(ctx saga.Context) error {
					_, _ = change(ctx, "a")
					return errors.New("bad \xff")
				})
				if err == nil {
					return nil, errors.New("the scope didn't fail")
				}
				return &agreed{}, nil
			},
			does: func(j *journal) {
				j.end("1.1.1", machine.Done)
				j.compensated("1.1.1")
			},
			state: succeeded,
		},
		{
			name: "a key that isn't UTF-8",
			code: func(ctx saga.Context, _ *request) (*agreed, error) {
				_, err := saga.Await(ctx, saga.NextEvent[*customerv1.AddressChanged]("k\xff"))
				return &agreed{}, err
			},
			state: suspended, reason: "a key that isn't UTF-8",
		},
		{
			name: "a change whose name isn't UTF-8",
			code: func(ctx saga.Context, _ *request) (*agreed, error) {
				saga.Version(ctx, "k\xff", 1)
				return &agreed{}, nil
			},
			state: suspended, reason: "a change needs a name",
		},
		{
			name: "another latest version of a change within a turn",
			code: func(ctx saga.Context, _ *request) (*agreed, error) {
				saga.Version(ctx, "x", 2)
				saga.Version(ctx, "x", 1)
				_, err := change(ctx, "a")
				return &agreed{}, err
			},
			state: suspended, reason: "the saga uses version 2 of the change \"x\"",
		},
		{
			name: "a sleep until the zero time",
			code: func(ctx saga.Context, _ *request) (*agreed, error) {
				saga.SleepUntil(ctx, time.Time{})
				return &agreed{}, nil
			},
			state: succeeded,
		},
		{
			name: "a restart with a request that is too long",
			code: func(ctx saga.Context, _ *request) (*agreed, error) {
				if _, err := change(ctx, "a"); err != nil {
					return nil, err
				}
				return nil, saga.Restart(ctx, &request{Customer: tooLong})
			},
			does:  func(j *journal) { j.end("1", machine.Done) },
			state: suspended, reason: "its request has 4194309 bytes; at most 4194304 are allowed",
		},
		{
			name:  "neither a reply nor an error",
			code:  func(saga.Context, *request) (*agreed, error) { return nil, nil },
			state: suspended, reason: "its code returned neither a reply nor an error",
		},
		{
			name:  "a reply that no caller can read",
			code:  func(saga.Context, *request) (*agreed, error) { return &agreed{Customer: tooLong}, nil },
			state: suspended, reason: "its reply has 4194309 bytes; at most 4194304 are allowed",
		},
		{
			name: "a restart without a request",
			code: func(ctx saga.Context, _ *request) (*agreed, error) {
				if _, err := change(ctx, "a"); err != nil {
					return nil, err
				}
				return nil, saga.Restart(ctx, (*request)(nil))
			},
			does:  func(j *journal) { j.end("1", machine.Done) },
			state: suspended, reason: "saga.Restart got nil",
		},
		{
			name: "a deferred goroutine end when the code is stopped",
			code: func(ctx saga.Context, _ *request) (*agreed, error) {
				err := saga.All(ctx,
					func(ctx saga.Context) error {
						defer runtime.Goexit()
						saga.Sleep(ctx, time.Hour)
						return nil
					},
					func(ctx saga.Context) error { _, err := change(ctx, "a"); return err })
				return &agreed{}, err
			},
			does:  func(j *journal) { j.end("1.2.1", machine.Refused) },
			state: suspended, reason: "runtime.Goexit was called",
		},
		{
			name: "a goroutine that ends, as t.FailNow does",
			code: func(saga.Context, *request) (*agreed, error) {
				runtime.Goexit()
				return nil, nil
			},
			state: suspended, reason: "runtime.Goexit was called",
		},
		{
			name: "the same in a branch",
			code: func(ctx saga.Context, _ *request) (*agreed, error) {
				return nil, saga.All(ctx,
					func(ctx saga.Context) error { saga.Sleep(ctx, time.Hour); return nil },
					func(saga.Context) error { runtime.Goexit(); return nil })
			},
			state: suspended, reason: "runtime.Goexit was called",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			// The saga runs on its own goroutine, which Goexit must not end.
			ended, returned := make(chan struct{}), false
			go func() {
				defer close(ended)
				j := language(t, test.code)
				if test.does != nil {
					test.does(j)
				}
				for range 2 {
					got := j.machine.Saga()
					message := got.Suspension.GetMessage()
					if got.State != test.state || !strings.Contains(message, test.reason) {
						t.Errorf("got %v, %q, want %v with %q", got.State, message, test.state, test.reason)
					}
					j.crash()
				}
				returned = true
			}()
			<-ended
			if !returned {
				t.Error("the goroutine that ran the saga has ended")
			}
		})
	}
}

// TestLoggerOfAnEvictedSaga checks that deferred code logs nothing when a waiting saga is evicted.
func TestLoggerOfAnEvictedSaga(t *testing.T) {
	var out bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&out, nil))
	j := begin(t, logger, func(ctx saga.Context, _ *request) (*agreed, error) {
		defer func() { saga.Logger(ctx).Info("over") }()
		saga.Sleep(ctx, time.Hour)
		return &agreed{}, nil
	})
	for range 3 {
		j.crash()
	}
	if out.Len() > 0 {
		t.Errorf("the saga logged while it slept:\n%s", out.String())
	}
	j.at(2 * time.Hour)
	j.want(succeeded, "")
	if n := strings.Count(out.String(), "over"); n != 1 {
		t.Errorf("logged %d times, want once:\n%s", n, out.String())
	}
}
