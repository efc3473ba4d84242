package server_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
	"github.com/treatyhq/treaty/orchestrator/internal/server"
)

// Every answer to a parent says what it covers.
func TestAnswersToAParentAreMarked(t *testing.T) {
	started := func(end engine.SagaEnd, err error) func(*fakeEngine) {
		return func(e *fakeEngine) {
			e.start = func(context.Context, engine.StartParams) (server.Started, error) { return handle{end: end}, err }
		}
	}
	undone := func(undone bool, err error) func(*fakeEngine) {
		return func(e *fakeEngine) {
			e.compensateChild = func(context.Context, engine.StartParams) (bool, error) { return undone, err }
		}
	}
	const start, undo = verifyApplicant, undoVerifyApplicant
	refusal := &treatyv1.Failure{Code: int32(codes.NotFound)}
	for name, test := range map[string]struct {
		method string
		with   func(*fakeEngine)
		code   codes.Code
		mark   string
	}{
		"done": {start, started(engine.SagaEnd{State: treatyv1.SagaState_SAGA_STATE_SUCCEEDED}, nil), codes.OK,
			wire.AnswerDone},
		"accepted": {start, started(engine.SagaEnd{}, nil), codes.OK, ""},
		"refused": {start,
			started(engine.SagaEnd{State: treatyv1.SagaState_SAGA_STATE_COMPENSATED, Failure: refusal}, nil),
			codes.NotFound, wire.AnswerSettled},
		"in doubt":      {start, started(engine.SagaEnd{}, engine.ErrInDoubt), codes.Unavailable, wire.AnswerAttempt},
		"lost":          {start, started(engine.SagaEnd{}, engine.ErrLost), codes.Unavailable, wire.AnswerAttempt},
		"replaced":      {start, started(engine.SagaEnd{}, engine.ErrReplaced), codes.Unavailable, wire.AnswerAttempt},
		"purged":        {start, started(engine.SagaEnd{}, engine.ErrPurged), codes.Internal, wire.AnswerAttempt},
		"unforeseen":    {start, started(engine.SagaEnd{}, errSecret), codes.Internal, wire.AnswerAttempt},
		"panic":         {start, func(*fakeEngine) {}, codes.Internal, wire.AnswerAttempt},
		"undone":        {undo, undone(true, nil), codes.OK, wire.AnswerDone},
		"being undone":  {undo, undone(false, nil), codes.OK, ""},
		"not undone":    {undo, undone(false, machine.ErrPastPivot), codes.FailedPrecondition, wire.AnswerAttempt},
		"later":         {undo, undone(false, machine.ErrPivotInFlight), codes.Aborted, wire.AnswerAttempt},
		"not a command": {changeAddress, nil, codes.InvalidArgument, wire.AnswerAttempt},
		"not served":    {"acme.identity.v1.IdentitySagas/Other", nil, codes.Unimplemented, wire.AnswerAttempt},
		"of a service that isn't served": {"acme.other.v1.OtherSagas/Other", nil, codes.Unimplemented,
			wire.AnswerAttempt},
	} {
		t.Run(name, func(t *testing.T) {
			a := newTestServer(t)
			if test.with != nil {
				test.with(a.engine)
			}
			direction := wire.Action
			if test.method == undo {
				direction = wire.Compensation
			}
			ctx, cancel := context.WithTimeout(sentBy(t.Context(), direction, ""), answered)
			defer cancel()
			var trailer metadata.MD
			err := a.conn.Invoke(ctx, "/"+test.method, raw(""), new(identityv1.ApplicantConfirmed),
				grpc.ForceCodec(rawCodec{}), grpc.Trailer(&trailer))
			if status.Code(err) != test.code || strings.Join(trailer.Get(wire.AnswerKey), " ") != test.mark {
				t.Errorf("got %v with the marks %q, want %v and %q", err, trailer.Get(wire.AnswerKey), test.code,
					test.mark)
			}
		})
	}
}

// A higher epoch of a scope fences the lower ones, in every call and after a restart. So does the epoch of a call that
// comes to nothing.
func TestScopesFence(t *testing.T) {
	a := newTestServer(t)
	succeededChild := handle{end: succeeded(t, &identityv1.ApplicantConfirmed{})}
	a.engine.start = func(context.Context, engine.StartParams) (server.Started, error) { return succeededChild, nil }
	a.engine.compensateChild = func(context.Context, engine.StartParams) (bool, error) { return true, nil }
	a.engine.closeChild = func(engine.StartParams) (engine.Closed, error) {
		return engine.Closed{Verdict: engine.WasAccepted}, nil
	}
	command := func(method, direction string, request raw) func(context.Context, *testServer) error {
		return func(ctx context.Context, a *testServer) error {
			ctx = metadata.AppendToOutgoingContext(ctx, wire.CommandIDKey, parentStep, wire.DirectionKey, direction)
			return a.conn.Invoke(ctx, "/"+method, request, new(identityv1.ApplicantConfirmed),
				grpc.ForceCodec(rawCodec{}))
		}
	}
	calls := map[string]func(ctx context.Context, a *testServer) error{
		"start":         command(verifyApplicant, wire.Action, ""),
		"invalid start": command(verifyApplicant, wire.Action, "\x0a\x05x"),
		"undo":          command(undoVerifyApplicant, wire.Compensation, ""),
		"no command":    command(changeAddress, wire.Action, ""),
		"wrong undo":    command(undoVerifyApplicant, wire.Action, ""),
		"describe": func(ctx context.Context, a *testServer) error {
			_, err := treatyv1.NewParticipantServiceClient(a.conn).Describe(ctx, &treatyv1.DescribeRequest{})
			return err
		},
		"list": func(ctx context.Context, a *testServer) error {
			_, err := treatyv1.NewParticipantServiceClient(a.conn).ListCommands(ctx,
				&treatyv1.ListCommandsRequest{Since: timestamppb.Now()})
			return err
		},
		"close": func(ctx context.Context, a *testServer) error {
			_, err := treatyv1.NewParticipantServiceClient(a.conn).CloseCommand(ctx,
				&treatyv1.CloseCommandRequest{CommandId: parentStep, Method: verifyApplicant})
			return err
		},
	}
	epoch := uint64(1)
	for _, raising := range []string{
		"start", "invalid start", "undo", "no command", "wrong undo", "describe", "list", "close",
	} {
		epoch++
		wantCode := codes.OK
		switch raising {
		case "invalid start", "no command":
			wantCode = codes.InvalidArgument
		case "wrong undo":
			wantCode = codes.FailedPrecondition
		}
		if err := calls[raising](askingAs(a.ctx(), "x/0", epoch), a); status.Code(err) != wantCode {
			t.Errorf("%s with the epoch %d: %v", raising, epoch, err)
		}
		restarted := &testServer{t: t, engine: a.engine, store: a.store}
		restarted.serve(server.Config{Engine: a.engine, Store: a.store, Definitions: []string{
			verifyApplicant, changeAddress,
		}}, nil)
		for _, to := range []*testServer{a, restarted} {
			for fenced, call := range calls {
				err := call(askingAs(a.ctx(), "x/0", epoch-1), to)
				if got := failureOf(t, err); got.code != codes.Aborted ||
					got.reason != treatyv1.ErrorReason_ERROR_REASON_STALE_EPOCH {
					t.Errorf("after %s, %s with a lower epoch: %v", raising, fenced, err)
				}
			}
		}
	}
	for name, call := range calls {
		err := call(askingAs(a.ctx(), "y/0", math.MaxInt64), a)
		if got := failureOf(t, err); got.code != codes.Unauthenticated ||
			got.reason != treatyv1.ErrorReason_ERROR_REASON_EPOCH_AHEAD {
			t.Errorf("%s with an epoch of the future: %v", name, err)
		}
		if err := call(askingAs(a.ctx(), "y/0", 1), a); status.Code(err) == codes.Aborted {
			t.Errorf("%s: an epoch of the future is remembered: %v", name, err)
		}
	}
	if err := calls["start"](a.ctx(), a); err != nil {
		t.Errorf("a start of an orchestrator of an earlier version: %v", err)
	}
}

// A higher epoch isn't answered while a child is being started under a lower one.
func TestScopeWaitsForStarts(t *testing.T) {
	a := newTestServer(t)
	starting, release := make(chan struct{}), make(chan struct{})
	a.engine.start = func(context.Context, engine.StartParams) (server.Started, error) {
		close(starting)
		<-release
		return nil, errors.New("not stored")
	}
	ended := make(chan error, 1)
	ctx := asStep(askingAs(a.ctx(), "x/0", 1), wire.Action)
	go func() {
		_, err := identityv1.NewIdentitySagasClient(a.conn).VerifyApplicant(ctx, verification(""))
		ended <- err
	}()
	<-starting
	describe := func(timeout time.Duration) error {
		ctx, cancel := context.WithTimeout(askingAs(t.Context(), "x/0", 2), timeout)
		defer cancel()
		_, err := treatyv1.NewParticipantServiceClient(a.conn).Describe(ctx, &treatyv1.DescribeRequest{})
		return err
	}
	if err := describe(200 * time.Millisecond); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("while a child is being started, a higher epoch is answered with %v", err)
	}
	close(release)
	if err := <-ended; status.Code(err) != codes.Internal {
		t.Errorf("the start ended with %v", err)
	}
	if err := describe(20 * time.Second); err != nil {
		t.Error(err)
	}
}

func TestOrchestratorDescribesItself(t *testing.T) {
	a := newTestServer(t)
	horizon := timestamppb.New(parentStart)
	var heard *treatyv1.HeardScope
	for position := range uint64(2) {
		var trailer metadata.MD
		got, err := treatyv1.NewParticipantServiceClient(a.conn).Describe(sentBy(a.ctx(), wire.Action, ""),
			&treatyv1.DescribeRequest{ProtocolVersion: 1, StoreId: "store", Position: position, Horizon: horizon},
			grpc.Trailer(&trailer))
		if err != nil {
			t.Fatal(err)
		}
		want := &treatyv1.DescribeResponse{
			ProtocolVersion: 1,
			Features: []treatyv1.ParticipantFeature{
				treatyv1.ParticipantFeature_PARTICIPANT_FEATURE_ANSWER_MARKS,
				treatyv1.ParticipantFeature_PARTICIPANT_FEATURE_LIST_COMMANDS,
				treatyv1.ParticipantFeature_PARTICIPANT_FEATURE_CLOSE_COMMAND,
			},
			Services: []string{
				"acme.card.v1.CardSagas", "acme.customer.v1.CustomerSagas", "acme.identity.v1.IdentitySagas",
			},
			KeptMethods: []string{verifyApplicant},
			Heard:       heard,
			ReceivedKeys: []string{
				wire.CommandIDKey, wire.DirectionKey, wire.EpochKey, wire.RequestDigestKey, wire.ScopeKey,
				wire.StartKey,
			},
		}
		if diff := cmp.Diff(want, got, protocmp.Transform(),
			protocmp.IgnoreFields(want, "build", "contracts_digest")); diff != "" {
			t.Errorf("description (-want +got):\n%s", diff)
		}
		if len(got.GetContractsDigest()) != wire.DigestLength || got.GetBuild() == "" {
			t.Errorf("the build is %q, the contracts have the digest %q", got.GetBuild(), got.GetContractsDigest())
		}
		if mark := trailer.Get(wire.AnswerKey); !slices.Equal(mark, []string{wire.AnswerDone}) {
			t.Errorf("the marks are %q", mark)
		}
		heard = &treatyv1.HeardScope{Epoch: parentEpoch, Position: position, StoreId: "store", Horizon: horizon}
	}
}

func TestQuestionsThatMakeNoSense(t *testing.T) {
	a := newTestServer(t)
	client := treatyv1.NewParticipantServiceClient(a.conn)
	ctx := askingAs(a.ctx(), parentScope, parentEpoch)
	list := func(request *treatyv1.ListCommandsRequest) error {
		_, err := client.ListCommands(ctx, request)
		return err
	}
	closing := func(id string) error {
		_, err := client.CloseCommand(ctx, &treatyv1.CloseCommandRequest{CommandId: id, Method: verifyApplicant})
		return err
	}
	_, withoutScope := client.Describe(a.ctx(), &treatyv1.DescribeRequest{})
	for name, err := range map[string]error{
		"no scope":      withoutScope,
		"no selection":  list(&treatyv1.ListCommandsRequest{}),
		"a page token":  list(&treatyv1.ListCommandsRequest{Since: timestamppb.Now(), PageToken: "x"}),
		"a token of no": list(&treatyv1.ListCommandsRequest{Since: timestamppb.Now(), PageToken: "0 x"}),
		"no command id": closing("x"),
		"a strange id":  closing("sagas/UPPER/steps/1"),
	} {
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	response, err := client.CloseCommand(ctx,
		&treatyv1.CloseCommandRequest{CommandId: parentStep, Method: changeAddress})
	if err != nil || response.GetNotKept() == nil {
		t.Errorf("closing a command of a saga that isn't a step: %v, %v", response, err)
	}
}

// A store that was replaced by another one doesn't know what became of commands since. The store of a failing disk
// doesn't know it either.
func TestListOfAStoreThatDoesNotKnow(t *testing.T) {
	for name, test := range map[string]struct {
		condition, failing error
		code               codes.Code
	}{
		"replaced":  {engine.ErrReplaced, nil, codes.Unavailable},
		"restoring": {engine.ErrRestoring, nil, codes.OK},
		"corrupt":   {nil, journal.ErrCorrupt, codes.DataLoss},
	} {
		t.Run(name, func(t *testing.T) {
			a := newTestServer(t)
			a.engine.condition = test.condition
			a.store.ChildStore = failingChildren{a.memory, test.failing}
			_, err := treatyv1.NewParticipantServiceClient(a.conn).ListCommands(
				askingAs(a.ctx(), parentScope, parentEpoch), &treatyv1.ListCommandsRequest{Since: timestamppb.Now()})
			if status.Code(err) != test.code {
				t.Errorf("got %v, want %v", err, test.code)
			}
		})
	}
}

// failingChildren fails to read children if err is set.
type failingChildren struct {
	server.ChildStore

	err error
}

func (f failingChildren) Children(ctx context.Context, params journal.ChildrenParams) ([]*journal.Row, error) {
	if f.err != nil {
		return nil, f.err
	}
	return f.ChildStore.Children(ctx, params)
}
