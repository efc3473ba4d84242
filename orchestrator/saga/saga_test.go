package saga_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/gen/acme/customer/v1/customerv1saga"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
	"github.com/treatyhq/treaty/orchestrator/internal/sagacode"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

var began = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

// only is a registrar that keeps the code of one definition.
type only struct{ code machine.Code }

func (o *only) RegisterSaga(d saga.Definition) { o.code = sagacode.Of(d) }

// journal is a ChangeAddress saga with the code of a test. It runs on a machine and keeps its turns in memory.
type journal struct {
	t       *testing.T
	code    machine.Code
	logger  *slog.Logger
	machine *machine.Machine
	turns   []*treatyv1.Turn
}

type (
	request = customerv1.ChangeAddressSagaRequest
	agreed  = customerv1.AddressAgreed
)

type body func(saga.Context, *request) (*agreed, error)

func begin(t *testing.T, logger *slog.Logger, code body) *journal {
	t.Helper()
	var registrar only
	saga.Register(&registrar, customerv1.CustomerSagas_ChangeAddress_FullMethodName, code)
	j := &journal{t: t, code: registrar.code, logger: logger}
	j.machine = j.newMachine()
	request, err := proto.Marshal(&request{Customer: "customers/ada"})
	if err != nil {
		t.Fatal(err)
	}
	j.apply(machine.Start{Started: &treatyv1.SagaStarted{Definition: "Test", Request: request, Seed: 42}})
	t.Cleanup(func() { j.machine.Close() })
	return j
}

func (j *journal) newMachine() *machine.Machine {
	command := func(method string) (*contract.Command, bool) {
		return &contract.Command{
			Broadcast:  strings.HasPrefix(method, "acme.Everybody/"),
			CallConfig: contract.CallConfig{Method: method}, Kind: treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE,
			Compensation: &contract.Compensation{CallConfig: contract.CallConfig{Method: "Undo"}},
		}, true
	}
	return machine.New(machine.Config{ID: "x", Code: j.code, Environment: j.logger, Command: command})
}

func (j *journal) apply(in machine.Input) {
	j.t.Helper()
	out, err := j.machine.Apply(began.Add(time.Duration(len(j.turns))*time.Minute), in)
	if err != nil {
		j.t.Fatal(err)
	}
	j.keep(out)
}

// keep adds a turn to the journal, as a store does.
func (j *journal) keep(out machine.Output) {
	j.t.Helper()
	if out.Turn == nil {
		return
	}
	if _, err := proto.Marshal(out.Turn); err != nil {
		j.t.Errorf("the turn can't be stored: %v", err)
	}
	j.turns = append(j.turns, out.Turn)
}

// crash drops the machine and recovers the saga with a new one.
func (j *journal) crash() {
	j.t.Helper()
	j.machine.Close()
	j.machine = j.newMachine()
	for _, turn := range j.turns {
		if err := j.machine.Replay(turn); err != nil {
			j.t.Fatal(err)
		}
	}
	j.apply(machine.Wake{})
}

func (j *journal) done(reply proto.Message) {
	j.t.Helper()
	data, err := proto.Marshal(reply)
	if err != nil {
		j.t.Fatal(err)
	}
	step := len(j.machine.Saga().Steps)
	j.apply(machine.CommandEnded{Step: fmt.Sprint(step), Direction: machine.Action, Outcome: machine.Done, Reply: data})
}

func (j *journal) fail(outcome machine.Outcome, failure *treatyv1.Failure) {
	j.t.Helper()
	step := len(j.machine.Saga().Steps)
	j.apply(machine.CommandEnded{Step: fmt.Sprint(step), Direction: machine.Action, Outcome: outcome, Failure: failure})
}

func change(ctx saga.Context, line string) (*customerv1.AddressChanged, error) {
	in := &customerv1.ChangeAddressRequest{Address: &customerv1.Address{Lines: []string{line}}}
	return customerv1saga.ChangeAddress(ctx, in)
}

// TestReplayIsTheSame puts the time, ids and random numbers into commands, and crashes after each. A difference would
// suspend the saga.
func TestReplayIsTheSame(t *testing.T) {
	var ids []string
	j := begin(t, nil, func(ctx saga.Context, _ *request) (*agreed, error) {
		ids = nil
		for range 3 {
			id := saga.NewID(ctx)
			ids = append(ids, id)
			if _, err := change(ctx, fmt.Sprint(id, saga.Now(ctx), saga.Rand(ctx).Uint64(), ctx.Saga())); err != nil {
				return nil, err
			}
		}
		return &agreed{}, nil
	})
	for range 3 {
		j.crash()
		if j.machine.Saga().Suspension != nil {
			t.Fatal(j.machine.Saga().Suspension.GetMessage())
		}
		j.done(&customerv1.AddressChanged{})
	}
	if got := j.machine.Saga().State; got != treatyv1.SagaState_SAGA_STATE_SUCCEEDED {
		t.Fatalf("ended as %v", got)
	}
	seen := make(map[string]bool)
	for _, id := range ids {
		if parsed, err := uuid.Parse(id); err != nil || parsed.Version() != 8 || seen[id] {
			t.Errorf("%s isn't a new UUID of version 8: %v", id, err)
		}
		seen[id] = true
	}
}

// TestTimeStandsStill checks that the time changes between turns only.
func TestTimeStandsStill(t *testing.T) {
	var times []time.Time
	j := begin(t, nil, func(ctx saga.Context, _ *request) (*agreed, error) {
		times = append(times, saga.Now(ctx), saga.Now(ctx))
		_, err := change(ctx, "")
		times = append(times, saga.Now(ctx))
		return &agreed{}, err
	})
	j.done(&customerv1.AddressChanged{})
	if diff := cmp.Diff([]time.Time{began, began, began.Add(time.Minute)}, times); diff != "" {
		t.Error(diff)
	}
}

func TestLoggerIsSilentOnReplay(t *testing.T) {
	var out bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&out, nil))
	j := begin(t, logger, func(ctx saga.Context, _ *request) (*agreed, error) {
		for i := range 2 {
			saga.Logger(ctx).With("a", 1).WithGroup("g").Info("step", "i", i)
			if _, err := change(ctx, ""); err != nil {
				return nil, err
			}
		}
		return &agreed{}, nil
	})
	j.crash()
	j.done(&customerv1.AddressChanged{})
	j.crash()
	j.done(&customerv1.AddressChanged{})
	if n := strings.Count(out.String(), "msg=step"); n != 2 || !strings.Contains(out.String(), "saga=sagas/x") {
		t.Errorf("logged %d times, want 2:\n%s", n, out.String())
	}
}

func TestErrors(t *testing.T) {
	rejection, err := anypb.New(&customerv1.CustomerClosed{})
	if err != nil {
		t.Fatal(err)
	}
	refusal := &treatyv1.Failure{
		Code: int32(codes.FailedPrecondition), Message: "closed", Details: []*anypb.Any{rejection},
	}
	t.Run("a refusal carries its rejection, and the returned error ends the saga", func(t *testing.T) {
		j := begin(t, nil, func(ctx saga.Context, _ *request) (*agreed, error) {
			_, err := change(ctx, "")
			if _, ok := saga.Rejection[*customerv1.CustomerClosed](err); !ok {
				t.Errorf("no rejection in %v", err)
			}
			if _, ok := saga.Rejection[*customerv1.EmailTaken](err); ok {
				t.Error("a rejection of another type")
			}
			var stepError *saga.Error
			if !errors.As(err, &stepError) || stepError.Unknown ||
				stepError.Method != "acme.customer.v1.CustomerService/ChangeAddress" {
				t.Errorf("got %#v", stepError)
			}
			if status.Code(err) != codes.FailedPrecondition {
				t.Errorf("got the code %v", status.Code(err))
			}
			return nil, fmt.Errorf("moving: %w", err)
		})
		j.fail(machine.Refused, refusal)
		failure := j.machine.Saga().CompensationDecided.GetFailure()
		if failure.GetCode() != int32(codes.FailedPrecondition) || len(failure.GetDetails()) != 1 ||
			!strings.Contains(failure.GetMessage(), "moving") {
			t.Errorf("the saga failed with %v", failure)
		}
	})
	t.Run("an unknown outcome says so", func(t *testing.T) {
		j := begin(t, nil, func(ctx saga.Context, _ *request) (*agreed, error) {
			_, err := change(ctx, "")
			var stepError *saga.Error
			if !errors.As(err, &stepError) || !stepError.Unknown || !strings.Contains(err.Error(), "unknown") {
				t.Errorf("got %v", err)
			}
			return nil, err
		})
		j.fail(machine.Unknown, &treatyv1.Failure{Code: int32(codes.Unavailable), Message: "gone"})
	})
	t.Run("a plain error ends the saga as FAILED_PRECONDITION", func(t *testing.T) {
		j := begin(t, nil, func(saga.Context, *request) (*agreed, error) {
			return nil, errors.New("no thanks")
		})
		failure := j.machine.Saga().CompensationDecided.GetFailure()
		if failure.GetCode() != int32(codes.FailedPrecondition) || failure.GetMessage() != "no thanks" {
			t.Errorf("got %v", failure)
		}
	})
	t.Run("no rejection in another error", func(t *testing.T) {
		if _, ok := saga.Rejection[*customerv1.CustomerClosed](errors.New("else")); ok {
			t.Error("found one")
		}
		if _, ok := saga.Rejection[*customerv1.CustomerClosed](nil); ok {
			t.Error("found one in nil")
		}
	})
}

// TestUnreadableReply gives the code a reply that is not the message in the contract.
func TestUnreadableReply(t *testing.T) {
	j := begin(t, nil, func(ctx saga.Context, _ *request) (*agreed, error) {
		_, err := change(ctx, "")
		return nil, err
	})
	j.apply(machine.CommandEnded{Step: "1", Direction: machine.Action, Outcome: machine.Done, Reply: []byte{0xff}})
	failure := j.machine.Saga().CompensationDecided.GetFailure()
	if !strings.Contains(failure.GetMessage(), "acme.customer.v1.AddressChanged") {
		t.Errorf("got %v", failure)
	}
}
