package dispatch

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/admission"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/telemetry"
)

func TestAttemptSendsBytesAndMetadata(t *testing.T) {
	expectNoLeak(t)
	var got metadata.MD
	s := serve(t, anyPort, func(ctx context.Context, request []byte) ([]byte, error) {
		got = received(ctx)
		return append([]byte("reply to "), request...), nil
	})
	d := dispatcher(t, s.addr)

	call := attempt()
	call.Number = 12
	call.Direction = engine.Compensation
	call.Trace = &treatyv1.TraceAnchor{
		TraceId:    []byte{0: 0xab, 15: 1},
		SpanId:     []byte{0: 0xcd, 7: 2},
		Flags:      1,
		Tracestate: "vendor=x",
	}
	result := d.Attempt(t.Context(), call)
	if result.Outcome != outcomeDone || string(result.Reply) != "reply to request" || result.Failure != nil {
		t.Fatalf("got %v", result)
	}
	for key, want := range map[string]string{
		wire.SagaKey:             "sagas/s1",
		wire.CommandIDKey:        "sagas/s1/steps/3",
		wire.DirectionKey:        "compensation",
		wire.AttemptKey:          "12",
		wire.EpochKey:            "7",
		telemetry.TraceparentKey: "00-ab000000000000000000000000000001-cd00000000000002-01",
		telemetry.TracestateKey:  "vendor=x",
		"content-type":           "application/grpc+proto",
	} {
		if values := got.Get(key); len(values) != 1 || values[0] != want {
			t.Errorf("%s is %q, want %q", key, values, want)
		}
	}
}

func TestAttemptWithEmptyMessages(t *testing.T) {
	s := serve(t, anyPort, func(_ context.Context, request []byte) ([]byte, error) {
		if len(request) != 0 {
			return nil, errors.New("not empty")
		}
		return nil, nil
	})
	call := attempt()
	call.Request = nil
	result := dispatcher(t, s.addr).Attempt(t.Context(), call)
	if result.Outcome != outcomeDone || len(result.Reply) != 0 {
		t.Fatalf("got %v", result)
	}
}

func TestOutcomesByCode(t *testing.T) {
	var answer codes.Code
	s := serve(t, anyPort, func(context.Context, []byte) ([]byte, error) {
		return nil, status.Error(answer, "because")
	})
	d := dispatcher(t, s.addr, func(c *testConfig) { c.BreakAfter = 1000 })
	for code, want := range map[codes.Code]treatyv1.Outcome{
		codes.Canceled:           outcomeUnknown,
		codes.Unknown:            outcomeUnknown,
		codes.InvalidArgument:    outcomeRefused,
		codes.DeadlineExceeded:   outcomeUnknown,
		codes.NotFound:           outcomeRefused,
		codes.AlreadyExists:      outcomeRefused,
		codes.PermissionDenied:   outcomeRefused,
		codes.ResourceExhausted:  outcomeThrottled,
		codes.FailedPrecondition: outcomeRefused,
		codes.Aborted:            outcomeConflict,
		codes.OutOfRange:         outcomeRefused,
		codes.Unimplemented:      outcomeMisdeployed,
		codes.Internal:           outcomeUnknown,
		codes.Unavailable:        outcomeUnknown,
		codes.DataLoss:           outcomeUnknown,
		codes.Unauthenticated:    outcomeMisdeployed,
		codes.Code(99):           outcomeUnknown,
	} {
		t.Run(code.String(), func(t *testing.T) {
			answer = code
			result := d.Attempt(t.Context(), attempt())
			failure := result.Failure
			if result.Outcome != want || failure.GetCode() != int32(code) || failure.GetMessage() != "because" {
				t.Errorf("by default: got %v, want %v", result, want)
			}
			// The contract may declare another outcome for each code.
			call := attempt()
			override := *call.Call
			override.Outcomes = map[codes.Code]treatyv1.Outcome{code: outcomeConflict}
			call.Call = &override
			if result := d.Attempt(t.Context(), call); result.Outcome != outcomeConflict {
				t.Errorf("with an override: got %v, want %v", result, outcomeConflict)
			}
		})
	}
}

// When a contract declares that UNAVAILABLE means refused, a connection that breaks during a command still isn't a
// refusal.
func TestOverrideNeedsTheParticipantsStatus(t *testing.T) {
	var running sync.WaitGroup
	over := make(chan struct{})
	var s *grpc.Server
	s = grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		if isHealth(stream) {
			return status.Error(codes.Unimplemented, "not served")
		}
		running.Add(1)
		defer running.Done()
		running.Go(s.Stop)
		<-over
		return nil
	}), grpc.WaitForHandlers(false))
	address := testkit.Serve(t, s)
	t.Cleanup(func() { close(over); s.Stop(); running.Wait() })

	d := dispatcher(t, address)
	call := attempt()
	override := *call.Call
	override.Outcomes = map[codes.Code]treatyv1.Outcome{codes.Unavailable: outcomeRefused}
	call.Call = &override
	for range 2 { // first the connection breaks, then there is none
		result := d.Attempt(t.Context(), call)
		if result.Failure.GetCode() != int32(codes.Unavailable) || result.Outcome != outcomeUnknown {
			t.Fatalf("got %v", result)
		}
	}
}

func TestFailureKeepsDetailsOfAnyType(t *testing.T) {
	rejection, err := anypb.New(structpb.NewStringValue("closed"))
	if err != nil {
		t.Fatal(err)
	}
	foreign := &anypb.Any{TypeUrl: "type.googleapis.com/acme.unknown.v1.Detail", Value: []byte{1, 2, 3}}
	s := serve(t, anyPort, func(context.Context, []byte) ([]byte, error) {
		p := status.New(codes.FailedPrecondition, "closed").Proto()
		p.Details = []*anypb.Any{rejection, foreign}
		return nil, status.ErrorProto(p)
	})
	result := dispatcher(t, s.addr).Attempt(t.Context(), attempt())
	if result.Outcome != outcomeRefused {
		t.Fatalf("got %v", result)
	}
	want := &treatyv1.Failure{
		Code: int32(codes.FailedPrecondition), Message: "closed", Details: []*anypb.Any{rejection, foreign},
	}
	if !proto.Equal(result.Failure, want) {
		t.Errorf("got %v, want %v", result.Failure, want)
	}
}

func TestRetryAfter(t *testing.T) {
	for _, test := range []struct {
		name  string
		code  codes.Code
		delay *durationpb.Duration
		want  time.Duration
	}{
		{"throttled", codes.ResourceExhausted, durationpb.New(3 * time.Second), 3 * time.Second},
		{"unavailable", codes.Unavailable, durationpb.New(time.Second), time.Second},
		{"too long", codes.ResourceExhausted, durationpb.New(1000 * time.Hour), maxRetryAfter},
		{"negative", codes.ResourceExhausted, durationpb.New(-time.Second), 0},
		{"invalid", codes.ResourceExhausted, &durationpb.Duration{Seconds: 1, Nanos: -1}, 0},
		{"absent", codes.ResourceExhausted, nil, 0},
		{"refused", codes.NotFound, durationpb.New(time.Second), 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			detail, err := anypb.New(&errdetails.RetryInfo{RetryDelay: test.delay})
			if err != nil {
				t.Fatal(err)
			}
			s := serve(t, anyPort, func(context.Context, []byte) ([]byte, error) {
				p := status.New(test.code, "").Proto()
				p.Details = []*anypb.Any{detail}
				return nil, status.ErrorProto(p)
			})
			if got := dispatcher(t, s.addr).Attempt(t.Context(), attempt()).RetryAfter; got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestFailureIsBounded(t *testing.T) {
	p := status.New(codes.NotFound, strings.Repeat("\u00e9", maxFailureMessageBytes)+"\xff").Proto()
	for range 3 {
		p.Details = append(p.Details, &anypb.Any{TypeUrl: "t/x", Value: make([]byte, maxFailureDetailBytes/2)})
	}
	failure, _ := failureOf(status.FromProto(p))
	if len(failure.GetMessage()) > maxFailureMessageBytes+3 || len(failure.GetDetails()) != 1 {
		t.Errorf("kept %d bytes of the message and %d details", len(failure.GetMessage()), len(failure.GetDetails()))
	}
	if _, err := proto.Marshal(failure); err != nil {
		t.Error(err)
	}
}

func TestTimeoutIsUnknown(t *testing.T) {
	release := make(chan struct{})
	s := serve(t, anyPort, func(context.Context, []byte) ([]byte, error) { <-release; return nil, nil })
	defer close(release)
	call := attempt()
	short := *call.Call
	short.Timeout = 20 * time.Millisecond
	call.Call = &short
	result := dispatcher(t, s.addr).Attempt(t.Context(), call)
	if result.Outcome != outcomeUnknown || codes.Code(result.Failure.GetCode()) != codes.DeadlineExceeded {
		t.Errorf("got %v", result)
	}
}

func TestCancelledIsUnknown(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := serve(t, anyPort, func(ctx context.Context, _ []byte) ([]byte, error) {
		cancel()
		<-ctx.Done()
		return nil, ctx.Err()
	})
	d := dispatcher(t, s.addr, func(c *testConfig) { c.BreakAfter = 1 })
	result := d.Attempt(ctx, attempt())
	if result.Outcome != outcomeUnknown || codes.Code(result.Failure.GetCode()) != codes.Canceled {
		t.Errorf("got %v", result)
	}
	if waits(d, destination("")) {
		t.Error("a call that was cancelled here opened the breaker")
	}
}

func TestNoParticipantServes(t *testing.T) {
	d := dispatcher(t, "127.0.0.1:1")
	call := attempt()
	other := *call.Call
	other.Method = "acme.other.v1.OtherService/Do"
	call.Call = &other
	result := d.Attempt(t.Context(), call)
	if result.Outcome != outcomeMisdeployed {
		t.Errorf("got %v", result)
	}
	for _, want := range []string{"acme.other.v1.OtherService", "--participant"} {
		if !strings.Contains(result.Failure.GetMessage(), want) {
			t.Errorf("%q doesn't name %q", result.Failure.GetMessage(), want)
		}
	}
	if waits(d, engine.Destination{Method: other.Method}) {
		t.Error("the call waits for no participant")
	}
}

func TestTooLarge(t *testing.T) {
	s := serve(t, anyPort, func(_ context.Context, request []byte) ([]byte, error) {
		return append(request, request...), nil
	})
	d := dispatcher(t, s.addr, func(c *testConfig) { c.MaxMessageBytes = 1000 })

	call := attempt()
	call.Request = make([]byte, 1001)
	result := d.Attempt(t.Context(), call)
	if result.Outcome != outcomeRefused || !strings.Contains(result.Failure.GetMessage(), "1001") {
		t.Errorf("a request over the limit: got %v", result)
	}

	// The participant executed the command, and only its reply is too large: the outcome isn't throttled.
	call.Request = make([]byte, 900)
	if result := d.Attempt(t.Context(), call); result.Outcome != outcomeUnknown {
		t.Errorf("a reply over the limit: got %v", result)
	}

	call.Request = make([]byte, 500)
	if result := d.Attempt(t.Context(), call); result.Outcome != outcomeDone || len(result.Reply) != 1000 {
		t.Errorf("at the limit: got %v", result.Outcome)
	}
}

// When the reply isn't a message of its type, the outcome is unknown, not done.
func TestUnreadableReply(t *testing.T) {
	for _, test := range []struct {
		name  string
		reply string
		want  treatyv1.Outcome
	}{
		{"a message", "\x0a\x03abc", outcomeDone},
		{"an empty message", "", outcomeDone},
		{"a message with a field of a newer contract", "\xa2\x06\x03abc", outcomeDone},
		{"a truncated message", "\x0a\x03ab", outcomeUnknown},
		{"text", "<html>", outcomeUnknown},
		{"text that isn't UTF-8 in a string", "\x0a\x01\xff", outcomeUnknown},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := serve(t, anyPort, func(context.Context, []byte) ([]byte, error) { return []byte(test.reply), nil })
			call := attempt()
			call.Call.Output = (*wrapperspb.StringValue)(nil).ProtoReflect().Descriptor()
			result := dispatcher(t, s.addr).Attempt(t.Context(), call)
			if result.Outcome != test.want {
				t.Errorf("got %v, want %v", result.Outcome, test.want)
			}
			if test.want == outcomeDone {
				return
			}
			code, message := result.Failure.GetCode(), result.Failure.GetMessage()
			if code != int32(codes.Internal) || !strings.Contains(message, "isn't a google.protobuf.StringValue") {
				t.Errorf("got %v", result.Failure)
			}
		})
	}
}

// A participant's own limit can keep it from sending the reply of a command that it has executed: the outcome isn't
// throttled.
func TestReplyTooLargeToSend(t *testing.T) {
	for _, test := range []struct {
		message string
		want    treatyv1.Outcome
	}{
		{"grpc: trying to send message larger than max (4194400 vs. 4194304)", outcomeUnknown},
		{"Sent message larger than max (4194400 vs. 4194304)", outcomeUnknown},
		{"Sending message exceeds the maximum configured message size.", outcomeUnknown},
		{"too many requests", outcomeThrottled},
	} {
		s := serve(t, anyPort, func(context.Context, []byte) ([]byte, error) {
			return nil, status.Error(codes.ResourceExhausted, test.message)
		})
		if result := dispatcher(t, s.addr).Attempt(t.Context(), attempt()); result.Outcome != test.want {
			t.Errorf("%s: got %v, want %v", test.message, result.Outcome, test.want)
		}
	}
}

func TestCloseWaitsForCalls(t *testing.T) {
	expectNoLeak(t)
	arrived, release := make(chan struct{}), make(chan struct{})
	s := serve(t, anyPort, func(context.Context, []byte) ([]byte, error) {
		close(arrived)
		<-release
		return []byte("late"), nil
	})
	d := dispatcher(t, s.addr)
	results := make(chan engine.Answer, 1)
	go func() { results <- d.Attempt(context.Background(), attempt()) }()
	<-arrived
	closed := make(chan error, 1)
	go func() { closed <- d.Close(context.Background()) }()
	for !d.calls.Closed() {
		select {
		case err := <-closed:
			t.Fatalf("closed during a call: %v", err)
		default:
		}
	}
	if result := d.Attempt(t.Context(), attempt()); result.Failure.GetMessage() != closedMessage {
		t.Errorf("an attempt while closing: got %v", result)
	}
	close(release)
	if result := <-results; string(result.Reply) != "late" {
		t.Errorf("got %v", result)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

func TestCloseCancelsCalls(t *testing.T) {
	arrived := make(chan struct{})
	s := serve(t, anyPort, func(ctx context.Context, _ []byte) ([]byte, error) {
		close(arrived)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	d := dispatcher(t, s.addr)
	results := make(chan engine.Answer, 1)
	go func() { results <- d.Attempt(context.Background(), attempt()) }()
	<-arrived
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Close(ctx); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "1 calls") {
		t.Errorf("got %v", err)
	}
	if result := <-results; result.Outcome != outcomeUnknown {
		t.Errorf("got %v", result)
	}
}

// A participant that asks to wait gets no command of any method until then.
func TestThrottledParticipant(t *testing.T) {
	throttled, err := status.New(codes.ResourceExhausted, "too many").WithDetails(
		&errdetails.RetryInfo{RetryDelay: durationpb.New(200 * time.Millisecond)})
	if err != nil {
		t.Fatal(err)
	}
	var calls atomic.Int64
	s := serve(t, anyPort, func(_ context.Context, request []byte) ([]byte, error) {
		if calls.Add(1) == 1 {
			return nil, throttled.Err()
		}
		return request, nil
	})
	d := dispatcher(t, s.addr)
	call := attempt()
	call.Slot = <-admit(d)
	if answer := d.Attempt(t.Context(), call); answer.Outcome != treatyv1.Outcome_OUTCOME_THROTTLED {
		t.Fatalf("got %v", answer)
	}
	began := time.Now()
	other := *attempt().Call
	other.Method = testService + "/Other"
	granted := make(chan *admission.Slot, 1)
	slot, _ := d.Admit(engine.Destination{Method: other.Method}, &other, admission.Claim{},
		func(slot *admission.Slot) { granted <- slot })
	if slot != nil {
		t.Fatal("a command of another method needn't wait")
	}
	(<-granted).Release()
	if waited := time.Since(began); waited < 100*time.Millisecond {
		t.Errorf("it waited only %s", waited)
	}
}
