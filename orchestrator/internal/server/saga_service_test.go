package server_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
	"github.com/treatyhq/treaty/orchestrator/internal/server"
)

// Every method returns every error with the right code, reason and saga.
func TestErrorsOfEveryMethod(t *testing.T) {
	const name, bad = "sagas/a1", "sagas/A_1"
	decision := &treatyv1.Decision{Actor: "ada", Reason: "by request"}
	calls := map[string]struct {
		call  func(ctx context.Context, a *testServer, name string) error
		field string // that holds the name
	}{
		"GetSaga": {func(ctx context.Context, a *testServer, name string) error {
			_, err := a.sagas.GetSaga(ctx, &treatyv1.GetSagaRequest{Name: name})
			return err
		}, "name"},
		"WaitSaga": {func(ctx context.Context, a *testServer, name string) error {
			_, err := a.sagas.WaitSaga(ctx, &treatyv1.WaitSagaRequest{Name: name})
			return err
		}, "name"},
		"WatchSaga": {func(ctx context.Context, a *testServer, name string) error {
			stream, err := a.sagas.WatchSaga(ctx, &treatyv1.WatchSagaRequest{Name: name})
			if err != nil {
				return err
			}
			_, err = stream.Recv()
			return err
		}, "name"},
		"CancelSaga": {func(ctx context.Context, a *testServer, name string) error {
			_, err := a.sagas.CancelSaga(ctx, &treatyv1.CancelSagaRequest{Name: name, Decision: decision})
			return err
		}, "name"},
		"ResumeSaga": {func(ctx context.Context, a *testServer, name string) error {
			_, err := a.sagas.ResumeSaga(ctx, &treatyv1.ResumeSagaRequest{
				Name: name, Decision: decision, How: &treatyv1.ResumeSagaRequest_Retry_{
					Retry: &treatyv1.ResumeSagaRequest_Retry{},
				},
			})
			return err
		}, "name"},
		"DeleteLostSaga": {func(ctx context.Context, a *testServer, name string) error {
			_, err := a.sagas.DeleteLostSaga(ctx, &treatyv1.DeleteLostSagaRequest{Name: name, Decision: decision})
			return err
		}, "name"},
		"ListSagaRecords": {func(ctx context.Context, a *testServer, name string) error {
			_, err := a.sagas.ListSagaRecords(ctx, &treatyv1.ListSagaRecordsRequest{Parent: name})
			return err
		}, "parent"},
	}
	errs := []struct {
		err  error
		want failure
	}{
		{
			fmt.Errorf("loading: %w", journal.ErrNotFound),
			failure{code: codes.NotFound, reason: treatyv1.ErrorReason_ERROR_REASON_SAGA_NOT_FOUND},
		},
		{
			fmt.Errorf("turn 3: %w", journal.ErrCorrupt),
			failure{code: codes.DataLoss, reason: treatyv1.ErrorReason_ERROR_REASON_STORE_CORRUPT},
		},
		{machine.ErrJournal, failure{code: codes.DataLoss, reason: treatyv1.ErrorReason_ERROR_REASON_STORE_CORRUPT}},
		{journal.ErrFull, failure{code: codes.Unavailable, reason: treatyv1.ErrorReason_ERROR_REASON_STORE_FULL}},
		{
			journal.ErrReadOnly,
			failure{code: codes.Unavailable, reason: treatyv1.ErrorReason_ERROR_REASON_STORE_READ_ONLY},
		},
		{journal.ErrClosed, failure{code: codes.Unavailable, reason: treatyv1.ErrorReason_ERROR_REASON_STOPPING}},
		{engine.ErrInDoubt, failure{code: codes.Unavailable, reason: treatyv1.ErrorReason_ERROR_REASON_IN_DOUBT}},
		{engine.ErrStopping, failure{code: codes.Unavailable, reason: treatyv1.ErrorReason_ERROR_REASON_STOPPING}},
		{
			fmt.Errorf("%w: step 2", machine.ErrPastPivot),
			failure{code: codes.FailedPrecondition, reason: treatyv1.ErrorReason_ERROR_REASON_PAST_PIVOT},
		},
		{
			machine.ErrPivotInFlight,
			failure{code: codes.FailedPrecondition, reason: treatyv1.ErrorReason_ERROR_REASON_PIVOT_IN_FLIGHT},
		},
		{
			fmt.Errorf("%w: it is RUNNING", machine.ErrChanged),
			failure{code: codes.Aborted, reason: treatyv1.ErrorReason_ERROR_REASON_SAGA_CHANGED},
		},
		{
			machine.ErrEnded,
			failure{code: codes.FailedPrecondition, reason: treatyv1.ErrorReason_ERROR_REASON_SAGA_ENDED},
		},
		{
			machine.ErrNotSuspended,
			failure{code: codes.FailedPrecondition, reason: treatyv1.ErrorReason_ERROR_REASON_NOT_SUSPENDED},
		},
		{
			machine.ErrDecisionUnfit,
			failure{code: codes.FailedPrecondition, reason: treatyv1.ErrorReason_ERROR_REASON_DECISION_UNFIT},
		},
		{
			fmt.Errorf("%w: it hasn't ended", engine.ErrKept),
			failure{code: codes.FailedPrecondition, reason: treatyv1.ErrorReason_ERROR_REASON_SAGA_KEPT},
		},
		{
			engine.ErrPurged,
			failure{code: codes.DataLoss, reason: treatyv1.ErrorReason_ERROR_REASON_SAGA_PURGED},
		},
		{
			engine.ErrOtherRequest,
			failure{code: codes.AlreadyExists, reason: treatyv1.ErrorReason_ERROR_REASON_OTHER_REQUEST},
		},
		{
			engine.ErrNoDefinition,
			failure{code: codes.NotFound, reason: treatyv1.ErrorReason_ERROR_REASON_DEFINITION_NOT_FOUND},
		},
		{
			fmt.Errorf("%w: a later epoch", engine.ErrReplaced),
			failure{code: codes.Unavailable, reason: treatyv1.ErrorReason_ERROR_REASON_STORE_REPLACED},
		},
		{engine.ErrEpochAhead, failure{code: codes.Unavailable, reason: treatyv1.ErrorReason_ERROR_REASON_EPOCH_AHEAD}},
		{engine.ErrRestoring, failure{code: codes.Unavailable, reason: treatyv1.ErrorReason_ERROR_REASON_RESTORING}},
		{engine.ErrLost, failure{code: codes.Unavailable, reason: treatyv1.ErrorReason_ERROR_REASON_SAGA_LOST}},
		{
			fmt.Errorf("%w: step 2", engine.ErrNotAsked),
			failure{
				code:   codes.Unavailable,
				reason: treatyv1.ErrorReason_ERROR_REASON_PARTICIPANT_UNAVAILABLE,
			},
		},
		{
			fmt.Errorf("%w: step 2", machine.ErrCatchingUp),
			failure{code: codes.Unavailable, reason: treatyv1.ErrorReason_ERROR_REASON_CATCHING_UP},
		},
		{
			engine.ErrStepNotFound,
			failure{code: codes.NotFound, reason: treatyv1.ErrorReason_ERROR_REASON_STEP_NOT_FOUND},
		},
		{
			engine.ErrStepEnded,
			failure{code: codes.FailedPrecondition, reason: treatyv1.ErrorReason_ERROR_REASON_STEP_ENDED},
		},
		{errSecret, failure{code: codes.Internal, reason: treatyv1.ErrorReason_ERROR_REASON_INTERNAL}},
	}
	a := newTestServer(t)
	for method, call := range calls {
		t.Run(method, func(t *testing.T) {
			for _, unnamed := range []string{"", "a1", bad, "sagas/" + strings.Repeat("a", 64), "sagas/a1/steps/1"} {
				want := failure{
					code:   codes.InvalidArgument,
					reason: treatyv1.ErrorReason_ERROR_REASON_INVALID_REQUEST,
					field:  call.field,
				}
				if got := failureOf(t, call.call(a.ctx(), a, unnamed)); got != want {
					t.Errorf("%q: %+v, want %+v", unnamed, got, want)
				}
			}
			for _, test := range errs {
				a.store.err = test.err
				a.engine.get = func(string) (*treatyv1.Saga, error) { return nil, test.err }
				a.engine.await = func(context.Context, string) (engine.SagaEnd, error) {
					return engine.SagaEnd{}, test.err
				}
				a.engine.cancel = func(string, engine.CancelParams) error { return test.err }
				a.engine.resume = func(string, engine.ResumeParams) error { return test.err }
				a.engine.forget = func(string, *treatyv1.Decision) error { return test.err }
				err := call.call(a.ctx(), a, name)
				test.want.saga = name
				if got := failureOf(t, err); got != test.want {
					t.Errorf("%v: %+v, want %+v", test.err, got, test.want)
				}
				if strings.Contains(status.Convert(err).Message(), "secret") {
					t.Errorf("the message has internals: %v", err)
				}
			}
		})
	}
}

// An error that passes says when to repeat the call, and an error that a person must end says what the person does.
func TestErrorsSayWhatToDo(t *testing.T) {
	for _, test := range []struct {
		err  error
		want []string
	}{
		{
			fmt.Errorf("%w: a later epoch", engine.ErrReplaced),
			[]string{"a later epoch", "which of the two stores is right"},
		},
		{engine.ErrEpochAhead, []string{"corrected the clock", "--epoch-from-clock"}},
		{engine.ErrRestoring, []string{"restored from a backup", "repeat the call"}},
		{fmt.Errorf("%w: sagas/a1", engine.ErrLost), []string{"sagas/a1", "same request id", "undo its effects"}},
		{fmt.Errorf("%w: step 2: no route", engine.ErrNotAsked), []string{"step 2: no route", "nothing was recorded"}},
		{fmt.Errorf("%w: step 2", machine.ErrCatchingUp), []string{"step 2", "repeat the call", "resume it first"}},
	} {
		a := newTestServer(t)
		a.engine.cancel = func(string, engine.CancelParams) error { return test.err }
		_, err := a.sagas.CancelSaga(a.ctx(), &treatyv1.CancelSagaRequest{Name: "sagas/a1"})
		for _, want := range test.want {
			if message := status.Convert(err).Message(); !strings.Contains(message, want) {
				t.Errorf("%v: %q doesn't say %q", test.err, message, want)
			}
		}
	}
}

func TestCreateSaga(t *testing.T) {
	a := newTestServer(t)
	var params engine.StartParams
	a.engine.start = func(_ context.Context, p engine.StartParams) (server.Started, error) {
		params = p
		return handle{}, nil
	}
	a.engine.get = func(id string) (*treatyv1.Saga, error) {
		return &treatyv1.Saga{Name: "sagas/" + id, Request: pack(t, application())}, nil
	}
	got, err := a.sagas.CreateSaga(
		a.ctx(),
		&treatyv1.CreateSagaRequest{Definition: issueCard, Request: pack(t, application()), SagaId: "the-first"},
	)
	if err != nil {
		t.Fatal(err)
	}
	if got.GetName() != "sagas/the-first" || params.SagaID != "the-first" || params.Deadline.Hours() != 24 {
		t.Errorf("saga %v of %v", got, params)
	}
	if diff := cmp.Diff(map[string]string{"product": "gold", "channel": "web"}, params.Labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	shown := new(cardv1.IssueCardSagaRequest)
	if err := got.GetRequest().UnmarshalTo(shown); err != nil {
		t.Fatal(err)
	}
	if shown.GetPerson().GetPassportNumber() == application().GetPerson().GetPassportNumber() ||
		shown.GetProduct() != "gold" {
		t.Errorf("shown %v", shown)
	}
	stored := new(cardv1.IssueCardSagaRequest)
	if err := proto.Unmarshal(params.Request, stored); err != nil || !proto.Equal(stored, application()) {
		t.Errorf("stored %v (%v)", stored, err)
	}
}

func TestCreateSagaRefuses(t *testing.T) {
	invalid := func(field string) failure {
		return failure{
			code: codes.InvalidArgument, reason: treatyv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, field: field,
		}
	}
	good := pack(t, address())
	withID := pack(t, &customerv1.ChangeAddressSagaRequest{RequestId: "a"})
	for name, test := range map[string]struct {
		request *treatyv1.CreateSagaRequest
		want    failure
	}{
		"nothing": {&treatyv1.CreateSagaRequest{}, invalid("definition")},
		"unknown definition": {
			&treatyv1.CreateSagaRequest{Definition: "acme.v1.Sagas/Nope", Request: good},
			failure{code: codes.NotFound, reason: treatyv1.ErrorReason_ERROR_REASON_DEFINITION_NOT_FOUND},
		},
		"no request": {&treatyv1.CreateSagaRequest{Definition: changeAddress}, invalid("request")},
		"another message": {
			&treatyv1.CreateSagaRequest{Definition: changeAddress, Request: pack(t, application())}, invalid("request"),
		},
		"unreadable": {
			&treatyv1.CreateSagaRequest{
				Definition: changeAddress, Request: &anypb.Any{TypeUrl: good.GetTypeUrl(), Value: []byte{0xff}},
			},
			invalid("request"),
		},
		"bad saga id": {
			&treatyv1.CreateSagaRequest{Definition: changeAddress, Request: good, SagaId: "-a"}, invalid("saga_id"),
		},
		"long saga id": {
			&treatyv1.CreateSagaRequest{Definition: changeAddress, Request: good, SagaId: strings.Repeat("a", 64)},
			invalid("saga_id"),
		},
		"two ids": {
			&treatyv1.CreateSagaRequest{Definition: changeAddress, Request: withID, SagaId: "a"}, invalid("saga_id"),
		},
		"two request ids": {
			&treatyv1.CreateSagaRequest{Definition: changeAddress, Request: withID, RequestId: "b"},
			invalid("request_id"),
		},
		"request id not in it": {
			&treatyv1.CreateSagaRequest{Definition: changeAddress, Request: good, RequestId: "b"},
			invalid("request_id"),
		},
		"a definition's sooner": {
			&treatyv1.CreateSagaRequest{Definition: "/" + changeAddress, Request: good, SagaId: "A"},
			invalid("saga_id"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newTestServer(t)
			_, err := a.sagas.CreateSaga(a.ctx(), test.request)
			if got := failureOf(t, err); got != test.want {
				t.Errorf("%+v, want %+v (%v)", got, test.want, err)
			}
		})
	}
}

func TestWaitSagaEndsWhenTheOrchestratorStops(t *testing.T) {
	a := newTestServer(t)
	waiting := make(chan struct{})
	a.engine.await = func(ctx context.Context, _ string) (engine.SagaEnd, error) {
		close(waiting)
		<-ctx.Done()
		return engine.SagaEnd{}, context.Cause(ctx)
	}
	errs, ctx := make(chan error, 1), a.ctx()
	go func() {
		_, err := a.sagas.WaitSaga(ctx, &treatyv1.WaitSagaRequest{Name: "sagas/a1"})
		errs <- err
	}()
	<-waiting
	a.server.Drain(a.ctx())
	if got, want := failureOf(t, <-errs), (failure{code: codes.Unavailable,
		reason: treatyv1.ErrorReason_ERROR_REASON_STOPPING, saga: "sagas/a1"}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestWatchSaga(t *testing.T) {
	a := newTestServer(t)
	state := make(chan treatyv1.SagaState, 1)
	a.engine.get = func(id string) (*treatyv1.Saga, error) {
		saga := &treatyv1.Saga{Name: "sagas/" + id, State: <-state}
		if saga.GetState() == treatyv1.SagaState_SAGA_STATE_COMPENSATED {
			saga.EndTime = timestamppb.Now()
		}
		return saga, nil
	}
	stream, err := a.sagas.WatchSaga(a.ctx(), &treatyv1.WatchSagaRequest{Name: "sagas/a1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []treatyv1.SagaState{
		treatyv1.SagaState_SAGA_STATE_RUNNING, treatyv1.SagaState_SAGA_STATE_COMPENSATING,
		treatyv1.SagaState_SAGA_STATE_COMPENSATED,
	} {
		state <- want
		a.engine.changed()
		got, err := stream.Recv()
		if err != nil || got.GetSaga().GetState() != want {
			t.Fatalf("%v, %v; want %v", got, err, want)
		}
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ends with %v", err)
	}
}

func TestWatchSagaEndsWhenTheOrchestratorStops(t *testing.T) {
	a := newTestServer(t)
	stream, err := a.sagas.WatchSaga(a.ctx(), &treatyv1.WatchSagaRequest{Name: "sagas/a1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	ctx := a.ctx()
	var draining sync.WaitGroup
	defer draining.Wait()
	draining.Go(func() { a.server.Drain(ctx) })
	_, err = stream.Recv()
	if got, want := failureOf(t, err), (failure{code: codes.Unavailable,
		reason: treatyv1.ErrorReason_ERROR_REASON_STOPPING, saga: "sagas/a1"}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestCancelSaga(t *testing.T) {
	a := newTestServer(t)
	var got engine.CancelParams
	a.engine.cancel = func(_ string, params engine.CancelParams) error { got = params; return nil }
	want := engine.CancelParams{
		Decision: &treatyv1.Decision{Actor: "ada", Reason: "wrong customer", Principal: "local"}, Etag: "seen",
	}
	if _, err := a.sagas.CancelSaga(
		a.ctx(), &treatyv1.CancelSagaRequest{Name: "sagas/a1", Decision: want.Decision, Etag: "seen"},
	); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("decision (-want +got):\n%s", diff)
	}
	for field, decision := range map[string]*treatyv1.Decision{
		"decision.reason": {Actor: "ada"},
		"decision.actor":  {Reason: "wrong customer"},
	} {
		_, err := a.sagas.CancelSaga(a.ctx(), &treatyv1.CancelSagaRequest{Name: "sagas/a1", Decision: decision})
		if got := failureOf(t, err).field; got != field {
			t.Errorf("%v: field %q, want %q", decision, got, field)
		}
	}
	// A program cancels without a decision.
	got = want
	if _, err := a.sagas.CancelSaga(a.ctx(), &treatyv1.CancelSagaRequest{Name: "sagas/a1"}); err != nil {
		t.Fatal(err)
	}
	if got.Decision.GetActor() != "" || got.Decision.GetReason() != "" {
		t.Errorf("a program's cancel has the decision %v", got.Decision)
	}
	_, err := a.sagas.CancelSaga(
		a.ctx(),
		&treatyv1.CancelSagaRequest{Name: "sagas/a1", Decision: &treatyv1.Decision{Reason: strings.Repeat("x", 3000)}},
	)
	if got, want := failureOf(t, err).field, "decision.reason"; got != want {
		t.Errorf("field %q, want %q", got, want)
	}
}

func TestResumeSaga(t *testing.T) {
	suspendedFor := func(reason treatyv1.SuspensionReason, step string) *treatyv1.Saga {
		return &treatyv1.Saga{
			Name: "sagas/a1", Suspension: &treatyv1.SagaSuspended{Reason: reason, Step: step},
			Steps: []*treatyv1.Step{
				{
					Name:               "sagas/a1/steps/1",
					Method:             "acme.customer.v1.CustomerService/ChangeAddress",
					CompensationMethod: "acme.customer.v1.CustomerService/RestoreAddress",
				},
				{Name: "sagas/a1/steps/2", Method: "acme.card.v1.CardService/IssueCard"},
				{
					Name:               "sagas/a1/steps/3",
					Method:             "acme.gone.v1.Gone/Do",
					CompensationMethod: "acme.gone.v1.Gone/Undo",
				},
			},
		}
	}
	compensating := func(saga *treatyv1.Saga) *treatyv1.Saga {
		saga.Steps[0].State = treatyv1.StepState_STEP_STATE_COMPENSATING
		return saga
	}
	compensation := suspendedFor(treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_REFUSED, "1")
	pending := suspendedFor(treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_PENDING, "2")
	retriable := suspendedFor(treatyv1.SuspensionReason_SUSPENSION_REASON_RETRIABLE_UNKNOWN, "2")
	other := suspendedFor(treatyv1.SuspensionReason_SUSPENSION_REASON_OTHER_REQUEST, "1")
	otherUndo := compensating(suspendedFor(treatyv1.SuspensionReason_SUSPENSION_REASON_OTHER_REQUEST, "1"))
	purged := suspendedFor(treatyv1.SuspensionReason_SUSPENSION_REASON_PURGED, "1")
	purgedUndo := compensating(suspendedFor(treatyv1.SuspensionReason_SUSPENSION_REASON_PURGED, "1"))
	restored := suspendedFor(treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED, "")
	pivot := suspendedFor(treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_UNKNOWN, "2")
	gone := suspendedFor(treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_EXHAUSTED, "3")
	panicked := suspendedFor(treatyv1.SuspensionReason_SUSPENSION_REASON_PANIC, "")
	edited := func(m proto.Message) *treatyv1.ResumeSagaRequest {
		return &treatyv1.ResumeSagaRequest{
			How: &treatyv1.ResumeSagaRequest_RetryEdited_{
				RetryEdited: &treatyv1.ResumeSagaRequest_RetryEdited{Request: pack(t, m)},
			},
		}
	}
	masked := func(m proto.Message, paths ...string) *treatyv1.ResumeSagaRequest {
		request := edited(m)
		request.GetRetryEdited().UpdateMask = &fieldmaskpb.FieldMask{Paths: paths}
		return request
	}
	corrected := &customerv1.AddressChanged{Customer: "customers/ada"}
	redactable := suspendedFor(treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_REFUSED, "1")
	redactable.Steps[0].Request = pack(t, &customerv1.ChangeAddressRequest{Customer: "customers/secret"})
	redactable.Steps[0].Reply = pack(t, &customerv1.AddressChanged{Customer: "customers/typo"})
	done := func(reply *anypb.Any) *treatyv1.ResumeSagaRequest {
		return &treatyv1.ResumeSagaRequest{
			How: &treatyv1.ResumeSagaRequest_MarkDone_{MarkDone: &treatyv1.ResumeSagaRequest_MarkDone{Reply: reply}},
		}
	}
	retry := &treatyv1.ResumeSagaRequest{How: &treatyv1.ResumeSagaRequest_Retry_{}}
	refused := &treatyv1.ResumeSagaRequest{How: &treatyv1.ResumeSagaRequest_MarkRefused_{}}
	restore := &customerv1.RestoreAddressRequest{Action: &customerv1.ChangeAddressRequest{Customer: "customers/ada"}}
	issued := &cardv1.CardIssued{Card: "cards/1"}
	changed := &customerv1.AddressChanged{Customer: "customers/ada"}
	invalid := func(field string) failure {
		return failure{
			code:   codes.InvalidArgument,
			reason: treatyv1.ErrorReason_ERROR_REASON_INVALID_REQUEST,
			field:  field,
			saga:   "sagas/a1",
		}
	}
	unfit := failure{
		code: codes.FailedPrecondition, reason: treatyv1.ErrorReason_ERROR_REASON_DECISION_UNFIT, saga: "sagas/a1",
	}
	for name, test := range map[string]struct {
		saga    *treatyv1.Saga
		request *treatyv1.ResumeSagaRequest
		reason  string
		want    engine.ResumeParams
		failure failure
	}{
		"retry": {
			saga: panicked, request: retry, reason: "fixed", want: engine.ResumeParams{Action: machine.Retry},
		},
		"mark refused": {
			saga: pivot, request: refused, reason: "asked", want: engine.ResumeParams{Action: machine.MarkRefused},
		},
		"retry edited": {
			saga:    compensation,
			request: edited(restore),
			reason:  "typo",
			want:    engine.ResumeParams{Step: "1", Action: machine.RetryEdited, Payload: marshal(t, restore)},
		},
		"mark pivot done": {
			saga:    pivot,
			request: done(pack(t, issued)),
			reason:  "asked",
			want:    engine.ResumeParams{Step: "2", Action: machine.MarkDone, Payload: marshal(t, issued)},
		},
		"mark compensation done": {
			saga:    compensation,
			request: done(nil),
			reason:  "by hand",
			want:    engine.ResumeParams{Step: "1", Action: machine.MarkDone},
		},
		"mark done with reply": {
			saga:    compensation,
			request: done(pack(t, new(customerv1.AddressRestored))),
			reason:  "by hand",
			want:    engine.ResumeParams{Step: "1", Action: machine.MarkDone, Payload: []byte{}},
		},
		"mark gone done": {
			saga:    gone,
			request: done(nil),
			reason:  "by hand",
			want:    engine.ResumeParams{Step: "3", Action: machine.MarkDone},
		},
		"take over": {
			saga: other, request: &treatyv1.ResumeSagaRequest{How: &treatyv1.ResumeSagaRequest_TakeOver_{}},
			reason: "asked", want: engine.ResumeParams{Action: machine.TakeOver},
		},
		"mark a pending pivot done": {
			saga: pending, request: done(pack(t, issued)), reason: "asked",
			want: engine.ResumeParams{Step: "2", Action: machine.MarkDone, Payload: marshal(t, issued)},
		},
		"mark a retriable done": {
			saga: retriable, request: done(pack(t, issued)), reason: "asked",
			want: engine.ResumeParams{Step: "2", Action: machine.MarkDone, Payload: marshal(t, issued)},
		},
		"mark another request's action done": {
			saga: other, request: done(pack(t, changed)), reason: "asked",
			want: engine.ResumeParams{Step: "1", Action: machine.MarkDone, Payload: marshal(t, changed)},
		},
		"mark another request's compensation done": {
			saga: otherUndo, request: done(nil), reason: "by hand",
			want: engine.ResumeParams{Step: "1", Action: machine.MarkDone},
		},
		"edit another request's compensation": {
			saga: otherUndo, request: edited(restore), reason: "typo",
			want: engine.ResumeParams{Step: "1", Action: machine.RetryEdited, Payload: marshal(t, restore)},
		},
		"mark a purged action done": {
			saga: purged, request: done(pack(t, changed)), reason: "asked",
			want: engine.ResumeParams{Step: "1", Action: machine.MarkDone, Payload: marshal(t, changed)},
		},
		"mark a purged compensation done": {
			saga: purgedUndo, request: done(pack(t, new(customerv1.AddressRestored))), reason: "by hand",
			want: engine.ResumeParams{Step: "1", Action: machine.MarkDone, Payload: []byte{}},
		},
		"done: a purged action without reply": {
			saga: purged, request: done(nil), reason: "x", failure: invalid("mark_done.reply"),
		},
		"done: a purged action with the compensation's reply": {
			saga: purged, request: done(pack(t, new(customerv1.AddressRestored))), reason: "x",
			failure: invalid("mark_done.reply"),
		},
		"done: another request's action without reply": {
			saga: other, request: done(nil), reason: "x", failure: invalid("mark_done.reply"),
		},
		"done: a pending pivot without reply": {
			saga: pending, request: done(nil), reason: "x", failure: invalid("mark_done.reply"),
		},
		"edited: a purged action": {saga: purged, request: edited(restore), reason: "x", failure: unfit},
		"edited: a retriable":     {saga: retriable, request: edited(restore), reason: "x", failure: unfit},
		"done: restored":          {saga: restored, request: done(nil), reason: "x", failure: unfit},
		"no reason":               {saga: panicked, request: retry, failure: invalid("decision.reason")},
		"retry edited in one field": {
			saga:    redactable,
			request: masked(&customerv1.RestoreAddressRequest{Reply: corrected}, "reply.customer"),
			reason:  "typo",
			want: engine.ResumeParams{Step: "1", Action: machine.RetryEdited, Payload: marshal(t,
				&customerv1.RestoreAddressRequest{
					Action: &customerv1.ChangeAddressRequest{Customer: "customers/secret"}, Reply: corrected,
				})},
		},
		"retry edited: a field is cleared": {
			saga:    redactable,
			request: masked(new(customerv1.RestoreAddressRequest), "reply"),
			reason:  "typo",
			want: engine.ResumeParams{Step: "1", Action: machine.RetryEdited, Payload: marshal(t,
				&customerv1.RestoreAddressRequest{
					Action: &customerv1.ChangeAddressRequest{Customer: "customers/secret"},
				})},
		},
		"retry edited: no such field": {
			saga: redactable, request: masked(restore, "reply.nothing"), reason: "typo",
			failure: invalid("retry_edited.update_mask"),
		},
		"retry edited: not a message": {
			saga: redactable, request: masked(restore, "reply.customer.x"), reason: "typo",
			failure: invalid("retry_edited.update_mask"),
		},
		"retry what was seen": {
			saga:    panicked,
			request: &treatyv1.ResumeSagaRequest{Etag: "seen", How: &treatyv1.ResumeSagaRequest_Retry_{}},
			reason:  "fixed", want: engine.ResumeParams{Action: machine.Retry, Etag: "seen"},
		},
		"no decision": {
			saga: panicked, request: new(treatyv1.ResumeSagaRequest), reason: "x", failure: invalid("how"),
		},
		"edited: another message": {
			saga: compensation, request: edited(issued), reason: "x", failure: invalid("retry_edited.request"),
		},
		"edited: empty": {
			saga:    compensation,
			request: edited(new(customerv1.RestoreAddressRequest)),
			reason:  "x",
			failure: invalid("retry_edited.request"),
		},
		"edited: a pivot": {saga: pivot, request: edited(restore), reason: "x", failure: unfit},
		"edited: a panic": {saga: panicked, request: edited(restore), reason: "x", failure: unfit},
		"edited: no contract": {
			saga:    gone,
			request: edited(restore),
			reason:  "x",
			failure: failure{
				code:   codes.FailedPrecondition,
				reason: treatyv1.ErrorReason_ERROR_REASON_CONTRACT_UNKNOWN,
				saga:   "sagas/a1",
			},
		},
		"done: a pivot without reply": {
			saga: pivot, request: done(nil), reason: "x", failure: invalid("mark_done.reply"),
		},
		"done: another message": {
			saga: pivot, request: done(pack(t, restore)), reason: "x", failure: invalid("mark_done.reply"),
		},
		"done: not suspended": {
			saga:    &treatyv1.Saga{Name: "sagas/a1"},
			request: done(nil),
			reason:  "x",
			failure: failure{
				code:   codes.FailedPrecondition,
				reason: treatyv1.ErrorReason_ERROR_REASON_NOT_SUSPENDED,
				saga:   "sagas/a1",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newTestServer(t)
			a.engine.get = func(string) (*treatyv1.Saga, error) { return test.saga, nil }
			var got engine.ResumeParams
			a.engine.resume = func(_ string, params engine.ResumeParams) error { got = params; return nil }
			test.request.Name, test.request.Decision = "sagas/a1", &treatyv1.Decision{Actor: "ada", Reason: test.reason}
			_, err := a.sagas.ResumeSaga(a.ctx(), test.request)
			if got := failureOf(t, err); got != test.failure {
				t.Fatalf("%+v, want %+v (%v)", got, test.failure, err)
			}
			if err != nil {
				return
			}
			test.want.Decision = &treatyv1.Decision{Actor: "ada", Reason: test.reason, Principal: "local"}
			if diff := cmp.Diff(test.want, got, protocmp.Transform()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A step that is a child saga names it, so that a person can look there.
func TestStepNamesItsChild(t *testing.T) {
	a := newTestServer(t)
	a.engine.get = func(id string) (*treatyv1.Saga, error) { return inspecting(id), nil }
	saga, err := a.sagas.GetSaga(a.ctx(), &treatyv1.GetSagaRequest{Name: "sagas/a1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range saga.GetSteps() {
		want := ""
		if step.GetMethod() == verifyApplicant {
			want = "sagas/" + engine.ChildID(verifyApplicant, "sagas/a1/steps/4")
		}
		if step.GetChild() != want {
			t.Errorf("%s is the child %q, want %q", step.GetName(), step.GetChild(), want)
		}
	}
}

func TestReturnedSagaIsRedacted(t *testing.T) {
	a := newTestServer(t)
	whole := &treatyv1.Saga{
		Name: "sagas/a1", Request: pack(t, application()),
		Steps: []*treatyv1.Step{
			{Request: pack(t, &customerv1.CreateCustomerRequest{DisplayName: "Ada Byron", Email: "ada@example.com"})},
		},
		Failure: &treatyv1.Failure{
			Details: []*anypb.Any{
				pack(t, &cardv1.Card{Number: "4000"}),
				{TypeUrl: "type.googleapis.com/acme.gone.v1.Gone", Value: []byte("secret")},
			},
		},
	}
	a.engine.get = func(string) (*treatyv1.Saga, error) { return whole, nil }
	before := proto.CloneOf(whole)
	got, err := a.sagas.GetSaga(a.ctx(), &treatyv1.GetSagaRequest{Name: "sagas/a1"}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"Ada Byron", "P1234567", "ada@example.com", "4000", "secret"} {
		if strings.Contains(string(marshal(t, got)), secret) {
			t.Errorf("%q is shown in %v", secret, got)
		}
	}
	if diff := cmp.Diff(before, whole, protocmp.Transform()); diff != "" {
		t.Errorf("the engine's own saga was changed (-before +after):\n%s", diff)
	}
}
