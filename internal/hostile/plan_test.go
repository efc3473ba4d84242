package hostile_test

import (
	"context"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/treatyhq/treaty/internal/hostile"
)

// What the client sees of each plan, and what the upstream executes.
func TestPlans(t *testing.T) {
	const short = 50 * time.Millisecond
	struck := func(r hostile.Record) bool { return r.Struck }
	arrived := func(r hostile.Record) bool { return r.Arrived }
	release := make(chan struct{})
	made := hostile.Status(codes.PermissionDenied, "made up: 100 %\nü")
	page := hostile.HTTP(502, "text/html", "<html>bad gateway</html>")
	scenarios := []struct {
		name     string
		plan     hostile.Plan
		method   string                    // default: Echo
		giveUp   func(hostile.Record) bool // when the client gives up; default: never
		code     codes.Code
		message  string // is part of the error's message
		mark     string // the mark in the trailers
		executed int
		calls    int // default: 1; more when gRPC tries again by itself
		ending   hostile.Ending
		release  chan struct{} // is closed when the call has ended for the client
	}{
		{name: "pass", plan: hostile.Pass(), mark: "trailer", executed: 1},
		{name: "pass an error", plan: hostile.Pass(), method: refuseMethod, code: codes.FailedPrecondition,
			message: "refused: 100 % sure\nand ü", mark: "trailer", executed: 1},
		{name: "swallow", plan: hostile.Swallow(), giveUp: struck, code: codes.Canceled, executed: 0,
			ending: hostile.GaveUp},
		{name: "duplicate", plan: hostile.Pass().Twice(), mark: "trailer", executed: 2},
		{name: "late duplicate", plan: hostile.Pass().And(hostile.Delivery{Delay: short}), mark: "trailer",
			executed: 2},
		{name: "late", plan: hostile.Pass().Delayed(short), mark: "trailer", executed: 1},
		{name: "late after the client gave up", plan: hostile.Pass().Held(release), giveUp: arrived,
			code: codes.Canceled, executed: 1, ending: hostile.GaveUp, release: release},
		{name: "late answer", plan: hostile.Plan{Answer: hostile.Upstream().Delayed(short)}, mark: "trailer",
			executed: 1},
		{name: "answer now, request later", plan: hostile.Give(made, hostile.BeforeRequest).Delayed(short),
			code: codes.PermissionDenied, message: "made up: 100 %\nü", executed: 1},
		{name: "reset now, request later",
			plan: hostile.Give(hostile.Reset(http2.ErrCodeInternal), hostile.BeforeRequest).Delayed(short),
			code: codes.Internal, message: "RST_STREAM", executed: 1, ending: hostile.WasReset},
		{name: "close now, request later",
			plan: hostile.Give(hostile.CloseConn(), hostile.BeforeRequest).Delayed(short),
			code: codes.Unavailable, executed: 1, ending: hostile.Closed},

		{name: "status before the request", plan: hostile.Give(made, hostile.BeforeRequest),
			code: codes.PermissionDenied, message: "made up: 100 %\nü", executed: 0},
		{name: "status after the request", plan: hostile.Give(made, hostile.AfterRequest),
			code: codes.PermissionDenied, executed: 1},
		{name: "status after the answer", plan: hostile.Give(made, hostile.AfterAnswer),
			code: codes.PermissionDenied, executed: 1},
		{name: "status after the headers", plan: hostile.Give(made, hostile.AfterHeaders),
			code: codes.PermissionDenied, executed: 1},
		{name: "status before the trailers", plan: hostile.Give(made, hostile.BeforeTrailers),
			code: codes.PermissionDenied, executed: 1},
		{name: "status instead of a refusal", plan: hostile.Give(made, hostile.BeforeTrailers), method: refuseMethod,
			code: codes.PermissionDenied, executed: 1},
		{name: "status with trailers",
			plan: hostile.Give(made.WithTrailers(metadata.Pairs(markKey, "forged")), hostile.BeforeRequest),
			code: codes.PermissionDenied, mark: "forged"},
		{name: "status with headers and trailers", plan: hostile.Give(
			made.WithHeaders(metadata.Pairs(markKey, "h")).WithTrailers(metadata.Pairs(markKey, "forged")),
			hostile.AfterAnswer), code: codes.PermissionDenied, mark: "forged", executed: 1},
		{name: "OK from nobody", plan: hostile.Give(hostile.Status(codes.OK, ""), hostile.BeforeRequest),
			code: codes.Internal},

		{name: "HTML page before the request", plan: hostile.Give(page, hostile.BeforeRequest), code: codes.Unavailable,
			message: "502"},
		{name: "HTML page after the request", plan: hostile.Give(page, hostile.AfterRequest), code: codes.Unavailable,
			executed: 1},
		{name: "HTML page instead of the answer", plan: hostile.Give(page, hostile.BeforeTrailers),
			code: codes.Unavailable, message: "text/html", executed: 1},
		{name: "HTTP 403", plan: hostile.Give(hostile.HTTP(403, "text/html", "<html>no</html>"), hostile.AfterHeaders),
			code: codes.PermissionDenied, executed: 1},

		{name: "chosen trailers dropped", plan: hostile.Plan{Answer: hostile.Upstream().DropTrailers("X-Mark")},
			executed: 1},
		{name: "all trailers dropped", plan: hostile.Plan{Answer: hostile.Upstream().DropAllTrailers()}, executed: 1},
		{name: "all trailers of an error dropped", plan: hostile.Plan{Answer: hostile.Upstream().DropAllTrailers()},
			method: refuseMethod, code: codes.FailedPrecondition, message: "sure", executed: 1},
		{name: "no trailers", plan: hostile.Plan{Answer: hostile.Upstream().EndWithoutTrailers()},
			code: codes.Internal, message: "without sending trailers", executed: 1},
		{name: "no status", plan: hostile.Plan{Answer: hostile.Upstream().DropTrailers("grpc-status")},
			code: codes.Unknown, mark: "trailer", executed: 1},
		{name: "no message", plan: hostile.Plan{Answer: hostile.Upstream().NoMessage()}, code: codes.Internal,
			mark: "trailer", executed: 1},
		{name: "two messages", plan: hostile.Plan{Answer: hostile.Upstream().TwoMessages()}, code: codes.Internal,
			executed: 1},

		{name: "reset before the request",
			plan: hostile.Give(hostile.Reset(http2.ErrCodeCancel), hostile.BeforeRequest),
			code: codes.Canceled, executed: 0, ending: hostile.WasReset},
		{name: "reset after the request",
			plan: hostile.Give(hostile.Reset(http2.ErrCodeEnhanceYourCalm), hostile.AfterRequest),
			code: codes.ResourceExhausted, executed: 1, ending: hostile.WasReset},
		{name: "reset after the answer",
			plan: hostile.Give(hostile.Reset(http2.ErrCodeInadequateSecurity), hostile.AfterAnswer),
			code: codes.PermissionDenied, executed: 1, ending: hostile.WasReset},
		{name: "reset after the headers",
			plan: hostile.Give(hostile.Reset(http2.ErrCodeProtocol), hostile.AfterHeaders),
			code: codes.Internal, executed: 1, ending: hostile.WasReset},
		{name: "reset before the trailers",
			plan: hostile.Give(hostile.Reset(http2.ErrCodeNo), hostile.BeforeTrailers),
			code: codes.Internal, executed: 1, ending: hostile.WasReset},

		{name: "refused before the request, tried again",
			plan: hostile.Give(hostile.Reset(http2.ErrCodeRefusedStream), hostile.BeforeRequest),
			mark: "trailer", executed: 1, calls: 2, ending: hostile.WasReset},
		{name: "refused after the answer, tried again",
			plan: hostile.Give(hostile.Reset(http2.ErrCodeRefusedStream), hostile.AfterAnswer),
			mark: "trailer", executed: 2, calls: 2, ending: hostile.WasReset},
		{name: "disowned before the request, tried again",
			plan: hostile.Give(hostile.GoAwayBelow(http2.ErrCodeNo), hostile.BeforeRequest),
			mark: "trailer", executed: 1, calls: 2, ending: hostile.WentAway},
		{name: "disowned after the request, tried again",
			plan: hostile.Give(hostile.GoAwayBelow(http2.ErrCodeEnhanceYourCalm), hostile.AfterRequest),
			mark: "trailer", executed: 2, calls: 2, ending: hostile.WentAway},
		{name: "disowned after the answer, tried again",
			plan: hostile.Give(hostile.GoAwayBelow(http2.ErrCodeNo), hostile.AfterAnswer),
			mark: "trailer", executed: 2, calls: 2, ending: hostile.WentAway},
		{name: "GOAWAY before the request", plan: hostile.Give(hostile.GoAway(http2.ErrCodeNo), hostile.BeforeRequest),
			mark: "trailer", executed: 1},
		{name: "GOAWAY after the answer", plan: hostile.Give(hostile.GoAway(http2.ErrCodeNo), hostile.AfterAnswer),
			mark: "trailer", executed: 1},
		{name: "GOAWAY before the trailers",
			plan: hostile.Give(hostile.GoAway(http2.ErrCodeNo), hostile.BeforeTrailers),
			mark: "trailer", executed: 1},

		{name: "closed before the request", plan: hostile.Give(hostile.CloseConn(), hostile.BeforeRequest),
			code: codes.Unavailable, ending: hostile.Closed},
		{name: "closed after the request", plan: hostile.Give(hostile.CloseConn(), hostile.AfterRequest),
			code: codes.Unavailable, executed: 1, ending: hostile.Closed},
		{name: "closed after the answer", plan: hostile.Give(hostile.CloseConn(), hostile.AfterAnswer),
			code: codes.Unavailable, executed: 1, ending: hostile.Closed},
		{name: "closed after the headers", plan: hostile.Give(hostile.CloseConn(), hostile.AfterHeaders),
			code: codes.Unavailable, executed: 1, ending: hostile.Closed},
		{name: "stall after the request", plan: hostile.Give(hostile.Stall(), hostile.AfterRequest), giveUp: struck,
			code: codes.Canceled, executed: 1, ending: hostile.GaveUp},
		{name: "stall with an end", plan: hostile.Give(hostile.Stall().For(short), hostile.BeforeTrailers),
			code: codes.Canceled, executed: 1, ending: hostile.WasReset},
		{name: "half-open with an end", plan: hostile.Give(hostile.HalfOpen().For(short), hostile.AfterAnswer),
			code: codes.Unavailable, executed: 1, ending: hostile.Closed},
	}
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			u, middle, conn := start(t, s.plan)
			if s.method == "" {
				s.method = echoMethod
			}
			if s.ending == "" {
				s.ending = hostile.Answered
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if s.giveUp != nil {
				go func() {
					defer cancel()
					_ = middle.Await(ctx, func(calls []hostile.Record) bool {
						return len(calls) > 0 && s.giveUp(calls[0])
					})
				}()
			}
			got := call(ctx, conn, s.method, "hello")
			if s.release != nil {
				if err := middle.Await(patient(t), func(calls []hostile.Record) bool {
					return calls[0].Ending != hostile.Pending
				}); err != nil {
					t.Fatal(err)
				}
				close(s.release)
			}
			if got.code() != s.code {
				t.Errorf("got %v, want %v", got.err, s.code)
			}
			if s.message != "" {
				checkContains(t, "the message", status.Convert(got.err).Message(), s.message)
			}
			if got.err == nil && got.reply != "hello" {
				t.Errorf("got reply %q", got.reply)
			}
			if mark := append(got.trailer.Get(markKey), "")[0]; mark != s.mark {
				t.Errorf("got mark %q, want %q", mark, s.mark)
			}
			calls := finished(t, middle, max(s.calls, 1))
			if len(calls) != max(s.calls, 1) {
				t.Errorf("got %d calls, want %d", len(calls), max(s.calls, 1))
			}
			if executed := u.executions(); executed != s.executed {
				t.Errorf("the upstream executed %d times, want %d", executed, s.executed)
			}
			if calls[0].Ending != s.ending {
				t.Errorf("the record says %q, want %q: %s", calls[0].Ending, s.ending, calls[0])
			}
		})
	}
}

func TestDroppedMetadata(t *testing.T) {
	u, _, conn := start(t, hostile.Pass().WithoutMetadata("X-Gone"))
	ctx := metadata.AppendToOutgoingContext(patient(t), "x-gone", "1", "x-kept", "2")
	if got := call(ctx, conn, echoMethod, ""); got.err != nil {
		t.Fatal(got.err)
	}
	md, _ := u.received()
	if len(md.Get("x-gone")) != 0 || len(md.Get("x-kept")) != 1 {
		t.Errorf("the upstream got %v", md)
	}
}

func TestDroppedHeaders(t *testing.T) {
	_, _, conn := start(t, hostile.Plan{Answer: hostile.Upstream().DropHeaders(markKey)})
	got := call(patient(t), conn, echoMethod, "")
	if got.err != nil || len(got.headers.Get(markKey)) != 0 || len(got.headers.Get("x-bytes-bin")) != 1 {
		t.Errorf("the client got %+v", got)
	}
}

// A held request goes up when the test releases it, whatever the client was told before.
func TestHeldRequest(t *testing.T) {
	release := make(chan struct{})
	u, middle, conn := start(t,
		hostile.Give(hostile.Status(codes.Unavailable, "gone"), hostile.BeforeRequest).Held(release))
	if got := call(patient(t), conn, echoMethod, ""); got.code() != codes.Unavailable {
		t.Fatal(got.err)
	}
	if got := call(patient(t), conn, echoMethod, ""); got.err != nil {
		t.Fatal(got.err)
	}
	if executed := u.executions(); executed != 1 {
		t.Fatalf("the upstream executed %d times before the release", executed)
	}
	_ = conn.Close()
	close(release)
	calls := finished(t, middle, 2)
	if executed := u.executions(); executed != 2 {
		t.Errorf("the upstream executed %d times after the release", executed)
	}
	want := hostile.Delivered{Opened: true, Whole: true, Answered: true, GRPCStatus: "0", Ended: true}
	if got := calls[0].Deliveries[0]; got != want {
		t.Errorf("got delivery %+v, want %+v", got, want)
	}
}

// On a half-open connection, nothing passes for other calls either.
// A half-open connection closes when its time is over, even if the call that it is for has ended by then.
func TestHalfOpenConnectionCloses(t *testing.T) {
	u := startUpstream(t)
	middle := startMiddle(t, u.address, hostile.Options{})
	release := make(chan struct{})
	plans := []hostile.Plan{
		hostile.Give(hostile.GoAway(http2.ErrCodeNo).Held(release), hostile.BeforeRequest),
		hostile.Give(hostile.HalfOpen().For(100*time.Millisecond), hostile.AfterAnswer),
	}
	middle.Program(func(call *hostile.Call) hostile.Plan { return plans[call.Number-1] })
	conn := dial(t, middle)
	done := make(chan answer, len(plans))
	for i := range plans {
		go func() { done <- call(patient(t), conn, echoMethod, "") }()
		if err := middle.Await(patient(t), func(calls []hostile.Record) bool {
			return len(calls) == i+1 && (i == 0 || calls[i].Struck)
		}); err != nil {
			t.Fatal(err)
		}
	}
	close(release) // The GOAWAY ends the second call for the middle.
	for range plans {
		if got := <-done; got.code() != codes.Unavailable {
			t.Errorf("got %v", got.err)
		}
	}
}

func TestHalfOpenConnection(t *testing.T) {
	u, middle, conn := start(t, hostile.Give(hostile.HalfOpen(), hostile.AfterAnswer))
	ctx, cancel := context.WithCancel(patient(t))
	defer cancel()
	done := make(chan answer, 2)
	go func() { done <- call(ctx, conn, echoMethod, "") }()
	if err := middle.Await(patient(t), func(calls []hostile.Record) bool {
		return len(calls) == 1 && calls[0].Struck
	}); err != nil {
		t.Fatal(err)
	}
	short, stop := context.WithTimeout(ctx, 50*time.Millisecond)
	defer stop()
	if got := call(short, conn, echoMethod, ""); got.code() != codes.DeadlineExceeded {
		t.Errorf("another call got %v", got.err)
	}
	cancel()
	if got := <-done; got.code() != codes.Canceled {
		t.Errorf("the call got %v", got.err)
	}
	_ = conn.Close()
	finished(t, middle, 1)
	if executed := u.executions(); executed != 1 {
		t.Errorf("the upstream executed %d times", executed)
	}
}
