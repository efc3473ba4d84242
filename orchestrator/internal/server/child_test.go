package server_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
	"github.com/treatyhq/treaty/orchestrator/internal/server"
)

const parentStep = "sagas/parent-1/steps/r2.1.4"

// asStep is a call's context as the orchestrator of a parent sends it.
func asStep(ctx context.Context, direction string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, wire.CommandIDKey, parentStep, wire.DirectionKey, direction)
}

func verification(requestID string) *identityv1.VerifyApplicantRequest {
	return &identityv1.VerifyApplicantRequest{RequestId: requestID, Customer: "customers/ada",
		PassportNumber: "P1234567"}
}

func TestChildStarts(t *testing.T) {
	a := newTestServer(t)
	var starts []engine.StartParams
	want := &identityv1.ApplicantConfirmed{Applicant: "applicants/1"}
	a.engine.start = func(_ context.Context, p engine.StartParams) (server.Started, error) {
		starts = append(starts, p)
		return handle{end: succeeded(t, want)}, nil
	}
	client := identityv1.NewIdentitySagasClient(a.conn)
	request := verification("order-1")
	for range 2 { // two attempts
		var header, trailer metadata.MD
		got, err := client.VerifyApplicant(asStep(a.ctx(), "action"), request, grpc.Header(&header),
			grpc.Trailer(&trailer))
		if err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(got, want) || len(trailer.Get(wire.PendingKey)) > 0 {
			t.Errorf("reply %v with %v, want %v", got, trailer, want)
		}
		if diff := cmp.Diff([]string{"sagas/" + starts[0].SagaID}, header.Get(wire.SagaKey)); diff != "" {
			t.Errorf("header (-want +got):\n%s", diff)
		}
	}
	if _, err := client.VerifyApplicant(a.ctx(), request); err != nil { // by itself
		t.Fatal(err)
	}
	if starts[0].SagaID != engine.ChildID(verifyApplicant, parentStep) || starts[1].SagaID != starts[0].SagaID ||
		starts[2].SagaID == starts[0].SagaID {
		t.Errorf("ids %s, %s and %s", starts[0].SagaID, starts[1].SagaID, starts[2].SagaID)
	}
	parent := &treatyv1.Parent{CommandId: parentStep, Kind: treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE}
	if diff := cmp.Diff(parent, starts[0].Parent, protocmp.Transform()); diff != "" {
		t.Errorf("parent (-want +got):\n%s", diff)
	}
	if starts[0].RequestID != "" || starts[2].RequestID != "order-1" || starts[2].Parent != nil ||
		starts[0].Labels["customer"] != "customers/ada" {
		t.Errorf("starts %+v", starts)
	}
}

// A client can't choose a request id that leads to a child.
func TestChildsIDIsNoRequestID(t *testing.T) {
	if engine.ChildID(verifyApplicant, parentStep) == engine.NewID(time.Time{}, "", verifyApplicant, parentStep) {
		t.Error("the command id as a request id leads to the child")
	}
}

// answered is a deadline for calls that the server answers before it, because the saga takes longer. The server answers
// after a second, which leaves another second for the answer, however busy the machine is.
const answered = 2 * time.Second

func TestChildThatTakesLong(t *testing.T) {
	for name, stop := range map[string]bool{"held": false, "stopping": true} {
		t.Run(name, func(t *testing.T) {
			a := newTestServer(t)
			started := make(chan struct{}, 1)
			a.engine.start = func(context.Context, engine.StartParams) (server.Started, error) {
				started <- struct{}{}
				return handle{}, nil
			}
			timeout := answered
			if stop {
				timeout = 20 * time.Second
			}
			ctx, cancel := context.WithTimeout(asStep(t.Context(), "action"), timeout)
			defer cancel()
			var draining sync.WaitGroup
			defer draining.Wait()
			if stop {
				draining.Go(func() {
					select {
					case <-started:
						a.server.Drain(ctx)
					case <-ctx.Done():
					}
				})
			}
			var trailer metadata.MD
			reply, err := identityv1.NewIdentitySagasClient(a.conn).VerifyApplicant(ctx, verification(""),
				grpc.Trailer(&trailer))
			if err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(reply, &identityv1.ApplicantConfirmed{}) {
				t.Errorf("reply %v", reply)
			}
			if diff := cmp.Diff([]string{"1"}, trailer.Get(wire.PendingKey)); diff != "" {
				t.Errorf("trailer (-want +got):\n%s", diff)
			}
		})
	}
}

// A parent asks again at once for a child that hasn't changed for long, too, so that it soon knows of the child's end.
func TestSleepingChildIsAskedForAtOnce(t *testing.T) {
	a := newTestServer(t)
	a.engine.start = func(context.Context, engine.StartParams) (server.Started, error) { return handle{}, nil }
	for _, unchanged := range []time.Duration{0, 155 * time.Second, 24 * time.Hour} {
		a.engine.get = func(string) (*treatyv1.Saga, error) {
			return &treatyv1.Saga{UpdateTime: timestamppb.New(time.Now().Add(-unchanged))}, nil
		}
		ctx, cancel := context.WithTimeout(asStep(t.Context(), "action"), answered)
		var trailer metadata.MD
		_, err := identityv1.NewIdentitySagasClient(a.conn).VerifyApplicant(ctx, verification(""),
			grpc.Trailer(&trailer))
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"1"}, trailer.Get(wire.PendingKey)); diff != "" {
			t.Errorf("unchanged for %s (-want +got):\n%s", unchanged, diff)
		}
	}
}

func TestChildThatFailedIsRefused(t *testing.T) {
	rejection := pack(t, &identityv1.ApplicantTurnedDown{Applicant: "applicants/1"})
	for name, test := range map[string]struct {
		failure *treatyv1.Failure
		cause   treatyv1.CompensationCause
		want    failure
	}{
		"refused": {
			&treatyv1.Failure{Code: int32(codes.NotFound), Details: []*anypb.Any{rejection}},
			treatyv1.CompensationCause_COMPENSATION_CAUSE_FAILED,
			failure{code: codes.NotFound, reason: treatyv1.ErrorReason_ERROR_REASON_SAGA_COMPENSATED},
		},
		"by another code": {
			&treatyv1.Failure{Code: int32(codes.Unavailable), Details: []*anypb.Any{rejection}},
			treatyv1.CompensationCause_COMPENSATION_CAUSE_FAILED,
			failure{code: codes.FailedPrecondition, reason: treatyv1.ErrorReason_ERROR_REASON_SAGA_COMPENSATED},
		},
		"deadline": {
			&treatyv1.Failure{Code: int32(codes.DeadlineExceeded), Details: []*anypb.Any{rejection}},
			treatyv1.CompensationCause_COMPENSATION_CAUSE_DEADLINE,
			failure{code: codes.FailedPrecondition, reason: treatyv1.ErrorReason_ERROR_REASON_SAGA_DEADLINE},
		},
		"compensated before it started": {
			&treatyv1.Failure{Code: int32(codes.Aborted), Details: []*anypb.Any{rejection}},
			treatyv1.CompensationCause_COMPENSATION_CAUSE_PARENT,
			failure{code: codes.FailedPrecondition, reason: treatyv1.ErrorReason_ERROR_REASON_COMPENSATED_BY_PARENT},
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newTestServer(t)
			a.engine.start = func(context.Context, engine.StartParams) (server.Started, error) {
				return handle{end: engine.SagaEnd{State: treatyv1.SagaState_SAGA_STATE_COMPENSATED,
					Failure: test.failure}}, nil
			}
			a.engine.get = func(string) (*treatyv1.Saga, error) { return &treatyv1.Saga{Cause: test.cause}, nil }
			_, err := identityv1.NewIdentitySagasClient(a.conn).VerifyApplicant(asStep(a.ctx(), "action"),
				verification(""))
			test.want.saga = "sagas/" + engine.ChildID(verifyApplicant, parentStep)
			if got := failureOf(t, err); got != test.want {
				t.Errorf("%+v, want %+v", got, test.want)
			}
			details := status.Convert(err).Proto().GetDetails()
			if !proto.Equal(details[1], rejection) {
				t.Errorf("details %v lack the rejection", details)
			}
			original := new(treatyv1.Failure)
			if code := codes.Code(uint32(test.failure.GetCode())); code != test.want.code {
				if err := details[len(details)-1].UnmarshalTo(original); err != nil ||
					original.GetCode() != test.failure.GetCode() {
					t.Errorf("details %v lack the original status (%v)", details, err)
				}
			}
		})
	}
}

func TestChildCallsThatMakeNoSense(t *testing.T) {
	invalid := func(field string) failure {
		return failure{code: codes.InvalidArgument, reason: treatyv1.ErrorReason_ERROR_REASON_INVALID_REQUEST,
			field: field}
	}
	malformed := failure{code: codes.InvalidArgument, reason: treatyv1.ErrorReason_ERROR_REASON_METADATA_INVALID}
	for name, test := range map[string]struct {
		method   string
		metadata []string
		want     failure
	}{
		"no kind": {changeAddress, []string{wire.CommandIDKey, parentStep, wire.DirectionKey, "action"},
			failure{code: codes.InvalidArgument, reason: treatyv1.ErrorReason_ERROR_REASON_NOT_A_STEP}},
		"no command id": {verifyApplicant, []string{wire.CommandIDKey, "orders/7", wire.DirectionKey, "action"},
			malformed},
		"a dropped command id": {verifyApplicant, []string{wire.SagaKey, "sagas/parent-1"}, malformed},
		"a dropped epoch": {verifyApplicant,
			[]string{wire.CommandIDKey, parentStep, wire.DirectionKey, "action", wire.ScopeKey, "x/0"}, malformed},
		"two command ids": {verifyApplicant,
			[]string{wire.CommandIDKey, parentStep, wire.CommandIDKey, parentStep, wire.DirectionKey, "action"},
			malformed},
		"no direction": {verifyApplicant, []string{wire.CommandIDKey, parentStep}, malformed},
		"start to undo": {verifyApplicant,
			[]string{wire.CommandIDKey, parentStep, wire.DirectionKey, "compensation"}, invalid(wire.DirectionKey)},
		"undo by hand": {undoVerifyApplicant, nil,
			failure{code: codes.FailedPrecondition, reason: treatyv1.ErrorReason_ERROR_REASON_NOT_A_COMMAND}},
		"undo as an action": {undoVerifyApplicant,
			[]string{wire.CommandIDKey, parentStep, wire.DirectionKey, "action"},
			failure{code: codes.FailedPrecondition, reason: treatyv1.ErrorReason_ERROR_REASON_NOT_A_COMMAND}},
		"undo of no command": {undoVerifyApplicant, []string{wire.CommandIDKey, "", wire.DirectionKey, "compensation"},
			malformed},
		"unreadable undo": {undoVerifyApplicant,
			[]string{wire.CommandIDKey, parentStep, wire.DirectionKey, "compensation"}, invalid("request")},
	} {
		t.Run(name, func(t *testing.T) {
			a := newTestServer(t)
			var request any = raw("")
			if name == "unreadable undo" {
				request = raw("\x0a\x05x")
			}
			ctx := metadata.AppendToOutgoingContext(a.ctx(), test.metadata...)
			err := a.conn.Invoke(ctx, "/"+test.method, request, new(customerv1.AddressAgreed),
				grpc.ForceCodec(rawCodec{}))
			if got := failureOf(t, err); got != test.want {
				t.Errorf("%+v, want %+v (%v)", got, test.want, err)
			}
		})
	}
}

func TestChildIsUndone(t *testing.T) {
	a := newTestServer(t)
	var params engine.StartParams
	a.engine.compensateChild = func(_ context.Context, p engine.StartParams) (bool, error) {
		params = p
		return true, nil
	}
	request := verification("order-1")
	_, err := identityv1.NewIdentitySagasClient(a.conn).UndoVerifyApplicant(asStep(a.ctx(), "compensation"),
		&identityv1.UndoVerifyApplicantRequest{
			Action: request, Reply: &identityv1.ApplicantConfirmed{Applicant: "applicants/1"},
		})
	if err != nil {
		t.Fatal(err)
	}
	got := new(identityv1.VerifyApplicantRequest)
	if err := proto.Unmarshal(params.Request, got); err != nil || !proto.Equal(got, request) {
		t.Errorf("request %v (%v), want %v", got, err, request)
	}
	if params.Definition != verifyApplicant || params.SagaID != engine.ChildID(verifyApplicant, parentStep) ||
		params.Parent.GetCommandId() != parentStep || params.Labels["customer"] == "" {
		t.Errorf("undone %+v", params)
	}
}

func TestUndoingAChildThatTakesLong(t *testing.T) {
	a := newTestServer(t)
	a.engine.compensateChild = func(context.Context, engine.StartParams) (bool, error) { return false, nil }
	ctx, cancel := context.WithTimeout(asStep(t.Context(), "compensation"), answered)
	defer cancel()
	var trailer metadata.MD
	if _, err := identityv1.NewIdentitySagasClient(a.conn).UndoVerifyApplicant(ctx,
		&identityv1.UndoVerifyApplicantRequest{}, grpc.Trailer(&trailer)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"1"}, trailer.Get(wire.PendingKey)); diff != "" {
		t.Errorf("trailer (-want +got):\n%s", diff)
	}
}

func TestUndoingAChildFails(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		want failure
	}{
		"past its pivot": {machine.ErrPastPivot,
			failure{code: codes.FailedPrecondition, reason: treatyv1.ErrorReason_ERROR_REASON_PAST_PIVOT}},
		"pivot in flight": {machine.ErrPivotInFlight,
			failure{code: codes.Aborted, reason: treatyv1.ErrorReason_ERROR_REASON_PIVOT_IN_FLIGHT}},
		"in doubt": {engine.ErrInDoubt,
			failure{code: codes.Unavailable, reason: treatyv1.ErrorReason_ERROR_REASON_IN_DOUBT}},
		"store full": {wrapped(engine.ErrInDoubt, journal.ErrFull),
			failure{code: codes.Unavailable, reason: treatyv1.ErrorReason_ERROR_REASON_STORE_FULL}},
		"unforeseen": {errSecret, failure{code: codes.Internal,
			reason: treatyv1.ErrorReason_ERROR_REASON_INTERNAL}},
	} {
		t.Run(name, func(t *testing.T) {
			a := newTestServer(t)
			a.engine.compensateChild = func(context.Context, engine.StartParams) (bool, error) {
				return false, test.err
			}
			_, err := identityv1.NewIdentitySagasClient(a.conn).UndoVerifyApplicant(asStep(a.ctx(), "compensation"),
				&identityv1.UndoVerifyApplicantRequest{})
			test.want.saga = "sagas/" + engine.ChildID(verifyApplicant, parentStep)
			if got := failureOf(t, err); got != test.want {
				t.Errorf("%+v, want %+v", got, test.want)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("the message reveals internals: %v", err)
			}
		})
	}
}
