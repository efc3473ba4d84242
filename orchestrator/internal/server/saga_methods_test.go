package server_test

import (
	"context"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/server"
	"github.com/treatyhq/treaty/orchestrator/internal/telemetry"
)

func succeeded(t *testing.T, reply proto.Message) engine.SagaEnd {
	t.Helper()
	return engine.SagaEnd{State: treatyv1.SagaState_SAGA_STATE_SUCCEEDED, Reply: marshal(t, reply)}
}

func TestSagaIsCalledLikeAnyMethod(t *testing.T) {
	a := newTestServer(t)
	var params engine.StartParams
	want := &customerv1.AddressAgreed{Customer: "customers/ada", AddressRevision: 2}
	a.engine.start = func(_ context.Context, p engine.StartParams) (server.Started, error) {
		params = p
		return handle{end: succeeded(t, want)}, nil
	}
	request := address()
	request.RequestId = "r-1"
	var header metadata.MD
	got, err := customerv1.NewCustomerSagasClient(a.conn).ChangeAddress(a.ctx(), request, grpc.Header(&header))
	if err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(got, want) {
		t.Errorf("reply %v, want %v", got, want)
	}
	name := "sagas/" + params.SagaID
	if diff := cmp.Diff([]string{name}, header.Get(wire.SagaKey)); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
	stored := new(customerv1.ChangeAddressSagaRequest)
	if err := proto.Unmarshal(params.Request, stored); err != nil || !proto.Equal(stored, request) {
		t.Errorf("the engine got %v (%v), want %v", stored, err, request)
	}
	params.Request, params.SagaID = nil, ""
	if diff := cmp.Diff(engine.StartParams{
		Definition: changeAddress, RequestID: "r-1", Labels: map[string]string{"customer": "customers/ada"},
		Principal: "local",
	}, params, cmp.Comparer(func(a, b *treatyv1.TraceAnchor) bool { return proto.Equal(a, b) })); diff != "" {
		t.Errorf("start (-want +got):\n%s", diff)
	}
}

func TestSagaIsNamedBeforeItEnds(t *testing.T) {
	a := newTestServer(t)
	release := make(chan struct{})
	a.engine.start = func(context.Context, engine.StartParams) (server.Started, error) {
		return waiting{release, succeeded(t, new(customerv1.AddressAgreed))}, nil
	}
	stream, err := a.conn.NewStream(a.ctx(), &grpc.StreamDesc{ServerStreams: true}, "/"+changeAddress)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.SendMsg(address()); err != nil {
		t.Fatal(err)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	header, err := stream.Header() // the saga hasn't ended
	if err != nil || len(header.Get(wire.SagaKey)) != 1 {
		t.Fatalf("header %v, %v", header, err)
	}
	close(release)
	if err := stream.RecvMsg(new(customerv1.AddressAgreed)); err != nil {
		t.Error(err)
	}
}

// waiting is a started saga that ends when it is released.
type waiting struct {
	release chan struct{}
	end     engine.SagaEnd
}

func (waiting) StartedBy() string { return "" }

func (w waiting) Await(ctx context.Context) (engine.SagaEnd, error) {
	select {
	case <-w.release:
		return w.end, nil
	case <-ctx.Done():
		return engine.SagaEnd{}, context.Cause(ctx)
	}
}

// Ended returns the saga's end, or false when it hasn't ended.
func (w waiting) Ended(context.Context) (engine.SagaEnd, bool, error) {
	select {
	case <-w.release:
		return w.end, true, nil
	default:
		return engine.SagaEnd{}, false, nil
	}
}

func TestSameRequestIDIsTheSameSaga(t *testing.T) {
	a := newTestServer(t)
	var ids []string
	a.engine.start = func(_ context.Context, p engine.StartParams) (server.Started, error) {
		ids = append(ids, p.SagaID)
		return handle{end: succeeded(t, new(customerv1.AddressAgreed))}, nil
	}
	for _, id := range []string{"one", "one", "two", "", ""} {
		request := address()
		request.RequestId = id
		if _, err := customerv1.NewCustomerSagasClient(a.conn).ChangeAddress(a.ctx(), request); err != nil {
			t.Fatal(err)
		}
	}
	if ids[0] != ids[1] || ids[1] == ids[2] || ids[3] == ids[4] || ids[2] == ids[3] {
		t.Errorf("ids %v", ids)
	}
	for _, id := range ids {
		if len(id) > 63 || strings.ToLower(id) != id {
			t.Errorf("%q doesn't fit a saga's name", id)
		}
	}
}

func TestFailedSagaIsAStatus(t *testing.T) {
	rejection := &cardv1.AddressNotServed{Reason: "a P.O. box"}
	theirs := &errdetails.ErrorInfo{Domain: "acme", Reason: "PO_BOX"}
	for name, test := range map[string]struct {
		failure *treatyv1.Failure
		cause   treatyv1.CompensationCause
		want    failure
	}{
		"failed": {
			failure: &treatyv1.Failure{
				Code:    int32(codes.FailedPrecondition),
				Message: "no P.O. boxes",
				Details: []*anypb.Any{pack(t, rejection), pack(t, theirs)},
			},
			cause: treatyv1.CompensationCause_COMPENSATION_CAUSE_FAILED,
			want: failure{
				code: codes.FailedPrecondition, reason: treatyv1.ErrorReason_ERROR_REASON_SAGA_COMPENSATED,
			},
		},
		"cancelled": {
			failure: &treatyv1.Failure{Code: int32(codes.Canceled), Message: "the saga was cancelled"},
			cause:   treatyv1.CompensationCause_COMPENSATION_CAUSE_CANCELLED,
			want:    failure{code: codes.Canceled, reason: treatyv1.ErrorReason_ERROR_REASON_SAGA_CANCELLED},
		},
		"deadline": {
			failure: &treatyv1.Failure{Code: int32(codes.DeadlineExceeded), Message: "too late"},
			cause:   treatyv1.CompensationCause_COMPENSATION_CAUSE_DEADLINE,
			want:    failure{code: codes.DeadlineExceeded, reason: treatyv1.ErrorReason_ERROR_REASON_SAGA_DEADLINE},
		},
		"own code is cancelled": {
			failure: &treatyv1.Failure{Code: int32(codes.Canceled), Message: "by the saga's code"},
			cause:   treatyv1.CompensationCause_COMPENSATION_CAUSE_FAILED,
			want:    failure{code: codes.Canceled, reason: treatyv1.ErrorReason_ERROR_REASON_SAGA_COMPENSATED},
		},
		"without a code": {
			failure: &treatyv1.Failure{},
			cause:   treatyv1.CompensationCause_COMPENSATION_CAUSE_FAILED,
			want:    failure{code: codes.Unknown, reason: treatyv1.ErrorReason_ERROR_REASON_SAGA_COMPENSATED},
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newTestServer(t)
			var id string
			a.engine.start = func(_ context.Context, p engine.StartParams) (server.Started, error) {
				id = p.SagaID
				return handle{
					end: engine.SagaEnd{State: treatyv1.SagaState_SAGA_STATE_COMPENSATED, Failure: test.failure},
				}, nil
			}
			a.engine.get = func(string) (*treatyv1.Saga, error) { return &treatyv1.Saga{Cause: test.cause}, nil }
			var header metadata.MD
			_, err := customerv1.NewCustomerSagasClient(a.conn).ChangeAddress(a.ctx(), address(), grpc.Header(&header))
			test.want.saga = "sagas/" + id
			if got := failureOf(t, err); got != test.want {
				t.Errorf("%+v, want %+v", got, test.want)
			}
			if diff := cmp.Diff([]string{"sagas/" + id}, header.Get(wire.SagaKey)); diff != "" {
				t.Errorf("header (-want +got):\n%s", diff)
			}
			st := status.Convert(err)
			if st.Message() != test.failure.GetMessage() {
				t.Errorf("message %q, want %q", st.Message(), test.failure.GetMessage())
			}
			details := st.Proto().GetDetails()[1:]
			if len(details) != len(test.failure.GetDetails()) {
				t.Fatalf("%d details, want %d", len(details), len(test.failure.GetDetails()))
			}
			for i := range details {
				if !proto.Equal(details[i], test.failure.GetDetails()[i]) {
					t.Errorf("detail %d is %v, want %v", i, details[i], test.failure.GetDetails()[i])
				}
			}
		})
	}
}

func TestCallersDeadlineDoesNotEndSaga(t *testing.T) {
	a := newTestServer(t)
	a.engine.start = func(context.Context, engine.StartParams) (server.Started, error) { return handle{}, nil }
	ctx, cancel := context.WithTimeout(a.ctx(), 50*time.Millisecond)
	defer cancel()
	_, err := customerv1.NewCustomerSagasClient(a.conn).ChangeAddress(ctx, address())
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("error %v, want DEADLINE_EXCEEDED", err)
	}
}

func TestRefusedStarts(t *testing.T) {
	long := strings.Repeat("x", 129)
	for name, test := range map[string]struct {
		request  any
		header   string
		startErr error
		want     failure
		named    bool // the status names the saga
		headed   bool // so does the header: there may be a saga
	}{
		"not a request": {
			request: raw("\xff\xff\xff"),
			want: failure{
				code:   codes.InvalidArgument,
				reason: treatyv1.ErrorReason_ERROR_REASON_INVALID_REQUEST,
				field:  "request",
			},
		},
		"not UTF-8": {
			request: raw("\x12\x01\xff"),
			want: failure{
				code:   codes.InvalidArgument,
				reason: treatyv1.ErrorReason_ERROR_REASON_INVALID_REQUEST,
				field:  "request",
			},
		},
		"long request id": {
			request: &customerv1.ChangeAddressSagaRequest{RequestId: long},
			want: failure{
				code:   codes.InvalidArgument,
				reason: treatyv1.ErrorReason_ERROR_REASON_INVALID_REQUEST,
				field:  "request_id",
			},
		},
		"long label": {
			request: &customerv1.ChangeAddressSagaRequest{Customer: strings.Repeat("é", 257)},
			want: failure{
				code:   codes.InvalidArgument,
				reason: treatyv1.ErrorReason_ERROR_REASON_INVALID_REQUEST,
				field:  "customer",
			},
		},
		"two request ids": {
			request: &customerv1.ChangeAddressSagaRequest{RequestId: "a"},
			header:  "b",
			want: failure{
				code:   codes.InvalidArgument,
				reason: treatyv1.ErrorReason_ERROR_REASON_INVALID_REQUEST,
				field:  "request_id",
			},
		},
		"oversized": {
			request: &customerv1.ChangeAddressSagaRequest{
				Address: &customerv1.Address{City: strings.Repeat("x", 5<<20)},
			},
			want: failure{code: codes.ResourceExhausted},
		},
		"purged": {
			startErr: engine.ErrPurged,
			want:     failure{code: codes.DataLoss, reason: treatyv1.ErrorReason_ERROR_REASON_SAGA_PURGED},
			named:    true,
		},
		"other request": {
			startErr: engine.ErrOtherRequest,
			want:     failure{code: codes.AlreadyExists, reason: treatyv1.ErrorReason_ERROR_REASON_OTHER_REQUEST},
			named:    true,
			headed:   true,
		},
		"in doubt": {
			startErr: engine.ErrInDoubt,
			want:     failure{code: codes.Unavailable, reason: treatyv1.ErrorReason_ERROR_REASON_IN_DOUBT},
			named:    true,
			headed:   true,
		},
		"store full": {
			startErr: wrapped(engine.ErrInDoubt, journal.ErrFull),
			want:     failure{code: codes.Unavailable, reason: treatyv1.ErrorReason_ERROR_REASON_STORE_FULL},
			named:    true,
		},
		"store read-only": {
			startErr: wrapped(engine.ErrInDoubt, journal.ErrReadOnly),
			want:     failure{code: codes.Unavailable, reason: treatyv1.ErrorReason_ERROR_REASON_STORE_READ_ONLY},
			named:    true,
		},
		"store corrupt": {
			startErr: wrapped(engine.ErrInDoubt, journal.ErrCorrupt),
			want:     failure{code: codes.DataLoss, reason: treatyv1.ErrorReason_ERROR_REASON_STORE_CORRUPT},
			named:    true,
		},
		"overloaded": {
			startErr: engine.ErrOverloaded,
			want:     failure{code: codes.ResourceExhausted, reason: treatyv1.ErrorReason_ERROR_REASON_OVERLOADED},
			named:    true,
		},
		"stopping": {
			startErr: engine.ErrStopping,
			want:     failure{code: codes.Unavailable, reason: treatyv1.ErrorReason_ERROR_REASON_STOPPING},
			named:    true,
		},
		"unforeseen": {
			startErr: errSecret,
			want:     failure{code: codes.Internal, reason: treatyv1.ErrorReason_ERROR_REASON_INTERNAL},
			named:    true,
		},
		"same request id, twice": {
			request:  &customerv1.ChangeAddressSagaRequest{RequestId: "a"},
			header:   "a",
			startErr: engine.ErrStopping,
			want:     failure{code: codes.Unavailable, reason: treatyv1.ErrorReason_ERROR_REASON_STOPPING},
			named:    true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newTestServer(t)
			var id string
			a.engine.start = func(_ context.Context, p engine.StartParams) (server.Started, error) {
				id = p.SagaID
				return nil, test.startErr
			}
			ctx := a.ctx()
			if test.header != "" {
				ctx = metadata.AppendToOutgoingContext(ctx, wire.RequestIDKey, test.header)
			}
			if test.request == nil {
				test.request = address()
			}
			var header metadata.MD
			err := a.conn.Invoke(
				ctx,
				"/"+changeAddress,
				test.request,
				new(customerv1.AddressAgreed),
				grpc.Header(&header),
				grpc.ForceCodec(rawCodec{}),
			)
			if test.named {
				test.want.saga = "sagas/" + id
			}
			var want []string
			if test.headed {
				want = []string{"sagas/" + id}
			}
			if diff := cmp.Diff(want, header.Get(wire.SagaKey)); diff != "" {
				t.Errorf("header (-want +got):\n%s", diff)
			}
			if got := failureOf(t, err); got != test.want {
				t.Errorf("%+v, want %+v (%v)", got, test.want, err)
			}
			if strings.Contains(status.Convert(err).Message(), "secret") {
				t.Errorf("the message has internals: %v", err)
			}
		})
	}
}

func TestEveryDefinitionOfServiceNeedsCode(t *testing.T) {
	catalog := catalogOf(t)
	if err := server.Check(catalog, []string{changeAddress}); err != nil {
		t.Error(err)
	}
	err := server.Check(catalog, []string{"acme.customer.v1.CustomerSagas/MoveOut"})
	if err == nil || !strings.Contains(err.Error(), "MoveOut has code, but no linked contract") ||
		!strings.Contains(err.Error(), changeAddress+" has no code") {
		t.Errorf("error %v", err)
	}
}

func TestPanicIsAnError(t *testing.T) {
	a := newTestServer(t)
	a.engine.start = func(context.Context, engine.StartParams) (server.Started, error) { panic("secret") }
	_, err := customerv1.NewCustomerSagasClient(a.conn).ChangeAddress(a.ctx(), address())
	if got, want := failureOf(t, err), (failure{code: codes.Internal,
		reason: treatyv1.ErrorReason_ERROR_REASON_INTERNAL}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the message has internals: %v", err)
	}
}

// The parent of the saga's anchor is the caller's span. The journal has an anchor even when spans aren't exported.
func TestCallersTraceIsContinued(t *testing.T) {
	traced, err := telemetry.New(t.Context(),
		telemetry.Config{Unbatched: true, SpanExporter: tracetest.NewInMemoryExporter()})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		telemetry *telemetry.Telemetry
		parent    string
		span      string // empty: any
	}{
		"traced":   {telemetry: traced, parent: "00f067aa0ba902b7"},
		"untraced": {span: "00f067aa0ba902b7"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newSecureTestServer(t, security{telemetry: test.telemetry})
			var trace *treatyv1.TraceAnchor
			a.engine.start = func(_ context.Context, p engine.StartParams) (server.Started, error) {
				trace = p.Trace
				return handle{end: succeeded(t, new(customerv1.AddressAgreed))}, nil
			}
			ctx := metadata.AppendToOutgoingContext(
				a.ctx(), "traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
			)
			if _, err := customerv1.NewCustomerSagasClient(a.conn).ChangeAddress(ctx, address()); err != nil {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(trace.GetTraceId()); got != "4bf92f3577b34da6a3ce929d0e0e4736" ||
				trace.GetFlags() != 1 {
				t.Errorf("trace %v", trace)
			}
			if got := hex.EncodeToString(trace.GetParentSpanId()); got != test.parent {
				t.Errorf("parent %q, want %q", got, test.parent)
			}
			if got := hex.EncodeToString(trace.GetSpanId()); test.span != "" && got != test.span || len(got) != 16 {
				t.Errorf("span %q, want %q", got, test.span)
			}
		})
	}
}
