package saga_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// end ends the action of a step, then crashes and recovers.
func (j *journal) end(step string, outcome machine.Outcome) {
	j.t.Helper()
	ended := machine.CommandEnded{Step: step, Direction: machine.Action, Outcome: outcome, Reply: []byte{}}
	if outcome != machine.Done {
		ended.Reply = nil
		ended.Failure = &treatyv1.Failure{Code: int32(codes.FailedPrecondition), Message: "not today"}
	}
	j.apply(ended)
	j.crash()
}

// compensated ends the compensation of a step.
func (j *journal) compensated(step string) {
	j.t.Helper()
	j.apply(machine.CommandEnded{Step: step, Direction: machine.Compensation, Outcome: machine.Done})
	j.crash()
}

// inFlight returns the commands and broadcasts that have not ended.
func (j *journal) inFlight() string {
	var steps []string
	for _, effect := range j.machine.PendingEffects() {
		if effect.Discover != nil {
			steps = append(steps, "discover "+effect.Discover.Path)
			continue
		}
		step := effect.Step.Path()
		if effect.Direction == machine.Compensation {
			step = "compensate " + step
		}
		steps = append(steps, step)
	}
	slices.Sort(steps)
	return strings.Join(steps, ", ")
}

func (j *journal) want(state treatyv1.SagaState, inFlight string) {
	j.t.Helper()
	if suspended := j.machine.Saga().Suspension; suspended != nil && state != treatyv1.SagaState_SAGA_STATE_SUSPENDED {
		j.t.Fatalf("suspended: %s", suspended.GetMessage())
	}
	if got := j.machine.Saga().State; got != state || j.inFlight() != inFlight {
		j.t.Fatalf("got %v with %q in flight, want %v with %q", got, j.inFlight(), state, inFlight)
	}
}

const (
	running   = treatyv1.SagaState_SAGA_STATE_RUNNING
	succeeded = treatyv1.SagaState_SAGA_STATE_SUCCEEDED
	suspended = treatyv1.SagaState_SAGA_STATE_SUSPENDED
)

// language starts a saga whose commands are compensatable.
func language(t *testing.T, code body) *journal {
	t.Helper()
	return begin(t, nil, code)
}

func TestAllSharesVariables(t *testing.T) {
	var order []string
	j := language(t, func(ctx saga.Context, _ *request) (*agreed, error) {
		order = nil
		visit := func(name string) func(saga.Context) error {
			return func(ctx saga.Context) error {
				_, err := change(ctx, name)
				order = append(order, name)
				return err
			}
		}
		err := saga.All(ctx, visit("a"), visit("b"), visit("c"))
		return &agreed{Customer: strings.Join(order, "")}, err
	})
	j.want(running, "1.1.1, 1.2.1, 1.3.1")
	j.end("1.2.1", machine.Done)
	j.end("1.3.1", machine.Done)
	j.want(running, "1.1.1")
	j.end("1.1.1", machine.Done)
	j.want(succeeded, "")
	reply := new(agreed)
	if err := proto.Unmarshal(j.machine.Saga().Reply, reply); err != nil || reply.GetCustomer() != "bca" {
		t.Errorf("the branches returned in the order %q, want bca: %v", reply.GetCustomer(), err)
	}
}

func TestAllReturnsTheFirstError(t *testing.T) {
	var got error
	j := language(t, func(ctx saga.Context, _ *request) (*agreed, error) {
		wrapped := func(ctx saga.Context) error {
			if _, err := change(ctx, "b"); err != nil {
				return fmt.Errorf("moving b: %w", err)
			}
			_, err := change(ctx, "never")
			return err
		}
		got = saga.All(ctx, func(ctx saga.Context) error { _, err := change(ctx, "a"); return err }, wrapped)
		return &agreed{}, nil // handles the error
	})
	j.end("1.2.1", machine.Refused)
	if got != nil {
		t.Fatalf("returned %v while a branch is in flight", got)
	}
	j.end("1.1.1", machine.Done)
	j.want(succeeded, "")
	var refused *saga.Error
	if !errors.As(got, &refused) || !strings.HasPrefix(got.Error(), "moving b: ") ||
		status.Code(got) != codes.FailedPrecondition {
		t.Errorf("got %v", got)
	}
}

func TestEachLimitsHowMany(t *testing.T) {
	j := language(t, func(ctx saga.Context, _ *request) (*agreed, error) {
		err := saga.Each(ctx, []string{"a", "b", "c"}, func(ctx saga.Context, item string) error {
			_, err := change(ctx, item)
			return err
		}, saga.AtMost(2))
		return &agreed{}, err
	})
	j.want(running, "1.1.1, 1.2.1")
	j.end("1.1.1", machine.Done)
	j.want(running, "1.2.1, 1.3.1")
	j.end("1.3.1", machine.Done)
	j.end("1.2.1", machine.Done)
	j.want(succeeded, "")
}

func TestTryTakesAnotherWay(t *testing.T) {
	j := language(t, func(ctx saga.Context, _ *request) (*agreed, error) {
		err := saga.Try(ctx, func(ctx saga.Context) error {
			if _, err := change(ctx, "gold"); err != nil {
				return err
			}
			_, err := change(ctx, "more gold")
			return err
		})
		if status.Code(err) == codes.FailedPrecondition {
			_, err = change(ctx, "classic")
		}
		return &agreed{}, err
	})
	j.end("1.1.1", machine.Done)
	j.end("1.1.2", machine.Refused)
	j.want(running, "compensate 1.1.1")
	j.compensated("1.1.1")
	j.want(running, "2")
	j.end("2", machine.Done)
	j.want(succeeded, "")
}

func TestTryWithin(t *testing.T) {
	var got error
	j := language(t, func(ctx saga.Context, _ *request) (*agreed, error) {
		got = saga.Try(ctx, func(ctx saga.Context) error {
			saga.Sleep(ctx, 24*time.Hour)
			return nil
		}, saga.Within(90*time.Second))
		return &agreed{}, nil
	})
	j.want(running, "")
	if due := j.machine.Due(); !due.Equal(began.Add(90 * time.Second)) {
		t.Fatalf("due at %v", due)
	}
	j.crash() // a minute later, before the scope's deadline
	j.want(running, "")
	j.at(2 * time.Minute)
	j.want(succeeded, "")
	if !errors.Is(got, saga.ErrDeadline) {
		t.Errorf("got %v", got)
	}
}

// at wakes the saga at a time after its start.
func (j *journal) at(d time.Duration) {
	j.t.Helper()
	out, err := j.machine.Apply(began.Add(d), machine.Wake{})
	if err != nil {
		j.t.Fatal(err)
	}
	j.keep(out)
}

func arrived(position uint64, customer string) machine.EventReceived {
	data, _ := proto.Marshal(&customerv1.AddressChanged{Customer: customer})
	return machine.EventReceived{
		Key:   &treatyv1.EventKey{Type: "acme.customer.v1.AddressChanged", Subject: customer},
		Event: &treatyv1.EventArrived{Position: position, Id: "1", Source: "test", Data: data},
	}
}

func TestFirst(t *testing.T) {
	code := func(came *string) body {
		return func(ctx saga.Context, _ *request) (*agreed, error) {
			ada := saga.NextEvent[*customerv1.AddressChanged]("ada")
			bob := saga.NextEvent[*customerv1.AddressChanged]("bob")
			soon, later := saga.After(time.Hour), saga.After(2*time.Hour)
			switch saga.First(ctx, later, ada, soon, bob) {
			case ada:
				*came = "ada " + ada.Message().GetCustomer()
			case bob:
				*came = "the other: " + bob.Message().GetCustomer()
			case soon:
				*came = "soon"
			case later:
				*came = "later"
			}
			return &agreed{}, nil
		}
	}
	for name, c := range map[string]struct {
		happens func(j *journal)
		want    string
	}{
		"the second event":   {func(j *journal) { j.apply(arrived(7, "bob")) }, "the other: bob"},
		"the earliest timer": {func(j *journal) { j.at(time.Hour) }, "soon"},
	} {
		t.Run(name, func(t *testing.T) {
			var came string
			j := language(t, code(&came))
			c.happens(j)
			j.want(succeeded, "")
			if came != c.want {
				t.Errorf("%q came first, want %q", came, c.want)
			}
		})
	}
}

func TestAwait(t *testing.T) {
	code := func(ctx saga.Context, _ *request) (*agreed, error) {
		changed, err := saga.Await(ctx, saga.NextEvent[*customerv1.AddressChanged]("ada"), saga.Within(time.Hour))
		return &agreed{Customer: changed.GetCustomer()}, err
	}
	t.Run("arrives", func(t *testing.T) {
		j := language(t, code)
		j.apply(arrived(1, "bob"))
		j.want(running, "")
		j.apply(arrived(2, "ada"))
		j.want(succeeded, "")
	})
	t.Run("times out", func(t *testing.T) {
		j := language(t, code)
		j.at(time.Hour)
		failure := j.machine.Saga().CompensationDecided.GetFailure()
		if failure.GetCode() != int32(codes.DeadlineExceeded) || !strings.Contains(failure.GetMessage(), "ada") {
			t.Errorf("the saga failed with %v", failure)
		}
	})
}

func TestVersionAndProgress(t *testing.T) {
	old := func(ctx saga.Context, _ *request) (*agreed, error) {
		saga.SetProgress(ctx, durationpb.New(1))
		saga.SetProgress(ctx, durationpb.New(2))
		if _, err := change(ctx, "a"); err != nil {
			return nil, err
		}
		_, err := change(ctx, "b")
		return &agreed{}, err
	}
	changed := func(ctx saga.Context, _ *request) (*agreed, error) {
		if saga.Version(ctx, "start with c", 1) == 1 {
			if _, err := change(ctx, "c"); err != nil {
				return nil, err
			}
			return &agreed{}, nil
		}
		return old(ctx, nil)
	}
	j := language(t, old)
	j.want(running, "1")
	progress := new(durationpb.Duration)
	if err := j.machine.Saga().Progress.UnmarshalTo(progress); err != nil || progress.GetNanos() != 2 {
		t.Errorf("the progress is %v: %v", progress, err)
	}
	var registrar only
	saga.Register(&registrar, customerv1.CustomerSagas_ChangeAddress_FullMethodName, changed)
	j.code = registrar.code
	j.crash()
	j.end("1", machine.Done)
	j.want(running, "2")
	j.end("2", machine.Done)
	j.want(succeeded, "")

	j = language(t, changed)
	j.end("1", machine.Done)
	j.want(succeeded, "")
}

func TestRestart(t *testing.T) {
	j := language(t, func(ctx saga.Context, in *request) (*agreed, error) {
		if _, err := change(ctx, in.GetCustomer()); err != nil {
			return nil, err
		}
		if in.GetCustomer() == "again" {
			return &agreed{}, nil
		}
		return nil, saga.Restart(ctx, &request{Customer: "again"})
	})
	j.done(&customerv1.AddressChanged{})
	j.turns = nil // the next round needs no earlier turn
	j.apply(machine.Wake{})
	j.want(running, "r2.1")
	j.end("r2.1", machine.Done)
	j.want(succeeded, "")
}

func TestInvalidSagaCode(t *testing.T) {
	for name, c := range map[string]struct {
		code func(ctx saga.Context)
		want string
	}{
		"the outer Context in a branch": {func(ctx saga.Context) {
			_ = saga.All(ctx, func(saga.Context) error { _, err := change(ctx, "a"); return err })
		}, "use the Context that its function receives (at saga_test.go:"},
		"a version of 0": {
			func(ctx saga.Context) { saga.Version(ctx, "x", 0) }, `saga.Version("x", 0): a change needs a name`,
		},
		"nothing to wait for": {func(ctx saga.Context) { saga.First(ctx) }, "saga.First needs at least one event"},
		"an empty key": {
			func(ctx saga.Context) { saga.First(ctx, saga.NextEvent[*customerv1.AddressChanged]("")) },
			"with an empty key",
		},
		"a long progress": {func(ctx saga.Context) {
			saga.SetProgress(ctx, &customerv1.AddressChanged{Customer: strings.Repeat("x", 70_000)})
		}, "at most 65536 are allowed"},
		"a restart with a request of another type": {
			func(ctx saga.Context) { _ = saga.Restart(ctx, &customerv1.AddressChanged{}) },
			"the saga takes acme.customer.v1.ChangeAddressSagaRequest",
		},
	} {
		t.Run(name, func(t *testing.T) {
			j := language(t, func(ctx saga.Context, _ *request) (*agreed, error) {
				c.code(ctx)
				return &agreed{}, nil
			})
			j.want(suspended, "")
			if got := j.machine.Saga().Suspension.GetMessage(); !strings.Contains(got, c.want) {
				t.Errorf("suspended with %q, want %q", got, c.want)
			}
		})
	}
}

func TestBroadcast(t *testing.T) {
	code := func(answers *[]string, got *error) body {
		return func(ctx saga.Context, _ *request) (*agreed, error) {
			*answers = nil
			in := &customerv1.ChangeAddressRequest{}
			found, err := saga.Broadcast[*customerv1.AddressChanged](ctx, "/acme.Everybody/Change", in)
			for _, answer := range found {
				*answers = append(*answers, answer.Participant)
			}
			*got = err
			return &agreed{}, nil
		}
	}
	t.Run("no participant", func(t *testing.T) {
		var answers []string
		var got error
		j := language(t, code(&answers, &got))
		j.want(running, "discover 1")
		j.apply(machine.Discovered{Path: "1"})
		j.want(succeeded, "")
		if status.Code(got) != codes.FailedPrecondition ||
			!strings.Contains(got.Error(), "no configured participant serves it") {
			t.Errorf("got %v", got)
		}
	})
	t.Run("one participant refuses", func(t *testing.T) {
		var answers []string
		var got error
		j := language(t, code(&answers, &got))
		j.apply(machine.Discovered{Path: "1", Participants: []string{"a.A", "b.B"}})
		j.crash()
		j.want(running, "1.1.1, 1.2.1")
		j.end("1.2.1", machine.Refused)
		j.end("1.1.1", machine.Done)
		j.want(succeeded, "")
		if !strings.HasPrefix(got.Error(), "at b.B: ") || len(answers) > 0 {
			t.Errorf("got %v and the answers %v", got, answers)
		}
	})
}
