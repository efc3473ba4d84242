package dispatch

import (
	"context"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/hostile"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
)

// outcome is what is compared of an answer.
type outcome struct {
	outcome  treatyv1.Outcome
	evidence engine.Evidence
	repeated bool
	halt     engine.Halt
}

func outcomeOf(a engine.Answer) outcome { return outcome{a.Outcome, a.Evidence, a.Repeated, a.Halt} }

const page = "<html><body>Forbidden</body></html>"

// says returns a handler that answers with a code and marks.
func says(code codes.Code, marks ...string) handler {
	return func(ctx context.Context, _ []byte) ([]byte, error) {
		for _, mark := range marks {
			_ = grpc.SetTrailer(ctx, metadata.Pairs(wire.AnswerKey, mark))
		}
		if code == codes.OK {
			return []byte{}, nil
		}
		return nil, status.Error(code, "says the handler")
	}
}

func saysReason(code codes.Code, reason treatyv1.ErrorReason, marks ...string) handler {
	return func(ctx context.Context, _ []byte) ([]byte, error) {
		for _, mark := range marks {
			_ = grpc.SetTrailer(ctx, metadata.Pairs(wire.AnswerKey, mark))
		}
		st, err := status.New(code, "says the library").WithDetails(&errdetails.ErrorInfo{
			Domain: wire.ErrorDomain, Reason: wire.Reason(reason),
		})
		if err != nil {
			return nil, err
		}
		return nil, st.Err()
	}
}

// TestWhoseWord sends a command through a hostile middle to participants of every kind, and compares what its answer is
// taken for.
func TestWhoseWord(t *testing.T) {
	const (
		proven, plain = AnswersProven, AnswersPlain
		settled       = wire.AnswerSettled
		once          = wire.AnswerAttempt
	)
	give := hostile.Give
	tests := []struct {
		name    string
		answers Answers
		handler handler
		plan    hostile.Plan
		pending bool // the method's contract has complete_within, or the method is a saga's
		want    outcome
	}{
		{"OK", plain, says(codes.OK), hostile.Pass(), false, outcome{outcome: outcomeDone, evidence: engine.Settled}},
		{"OK of a proven participant", proven, says(codes.OK), hostile.Pass(), false,
			outcome{outcome: outcomeDone, evidence: engine.Settled}},
		{"OK without a message", proven, says(codes.OK), give(hostile.Upstream().NoMessage(), 0), false,
			outcome{outcome: outcomeUnknown}},
		{"OK with two messages", proven, says(codes.OK), give(hostile.Upstream().TwoMessages(), 0), false,
			outcome{outcome: outcomeUnknown}},
		{"OK without trailers where a command can be accepted", proven, says(codes.OK, wire.AnswerDone),
			give(hostile.Upstream().DropTrailers(wire.AnswerKey), 0), true, outcome{outcome: outcomeUnknown}},
		{"OK with its mark where a command can be accepted", proven, says(codes.OK, wire.AnswerDone), hostile.Pass(),
			true,
			outcome{outcome: outcomeDone, evidence: engine.Settled}},
		{"OK of a plain participant where a command can be accepted", plain, says(codes.OK), hostile.Pass(), true,
			outcome{outcome: outcomeDone, evidence: engine.Settled}},

		{"a stored refusal", proven, says(codes.NotFound, settled), hostile.Pass(), false,
			outcome{outcome: outcomeRefused, evidence: engine.Settled}},
		{"a stored answer with any code", proven, says(codes.Unavailable, settled), hostile.Pass(), false,
			outcome{outcome: outcomeRefused, evidence: engine.Settled}},
		{"a stored answer proves an unknown participant", AnswersAuto, says(codes.NotFound, settled), hostile.Pass(),
			false,
			outcome{outcome: outcomeRefused, evidence: engine.Settled}},
		{"a refusal of this attempt", proven, says(codes.NotFound, once), hostile.Pass(), false,
			outcome{outcome: outcomeRefused, evidence: engine.AttemptNotRun}},
		{"a refusal of a plain participant", plain, says(codes.NotFound), hostile.Pass(), false,
			outcome{outcome: outcomeRefused, evidence: engine.AttemptNotRun}},
		{"a refusal of a participant with an older inbox", AnswersSettled, says(codes.NotFound), hostile.Pass(), false,
			outcome{outcome: outcomeRefused, evidence: engine.Settled}},
		{"a marked refusal of a participant that is declared to have an older inbox", AnswersSettled,
			says(codes.NotFound, once), hostile.Pass(), false,
			outcome{outcome: outcomeRefused, evidence: engine.AttemptNotRun}},
		{"a refusal behind a proxy that repeats calls", AnswersRepeated, says(codes.NotFound, once), hostile.Pass(),
			false,
			outcome{outcome: outcomeRefused, evidence: engine.AttemptNotRun, repeated: true}},
		{"an unmarked refusal", proven, says(codes.NotFound), hostile.Pass(), false, outcome{outcome: outcomeUnknown}},
		{"a refusal with an unknown mark", proven, says(codes.NotFound, "sure"), hostile.Pass(), false,
			outcome{outcome: outcomeUnknown}},
		{"a refusal with two marks", proven, says(codes.NotFound, settled, once), hostile.Pass(), false,
			outcome{outcome: outcomeUnknown}},

		{"conflict", proven, says(codes.Aborted, once), hostile.Pass(), false,
			outcome{outcome: outcomeConflict, evidence: engine.AttemptNotRun}},
		{"throttled", proven, says(codes.ResourceExhausted, once), hostile.Pass(), false,
			outcome{outcome: outcomeThrottled, evidence: engine.AttemptNotRun}},
		{"misdeployed", proven, says(codes.Unauthenticated, once), hostile.Pass(), false,
			outcome{outcome: outcomeMisdeployed, evidence: engine.AttemptNotRun}},
		{"unknown to the handler", proven, says(codes.Internal, once), hostile.Pass(), false,
			outcome{outcome: outcomeUnknown}},
		{"conflict of a plain participant", plain, says(codes.Aborted), hostile.Pass(), false,
			outcome{outcome: outcomeConflict, evidence: engine.AttemptNotRun}},
		{"unmarked conflict", proven, says(codes.Aborted), hostile.Pass(), false, outcome{outcome: outcomeConflict}},
		{"unmarked throttling", proven, says(codes.ResourceExhausted), hostile.Pass(), false,
			outcome{outcome: outcomeThrottled}},
		{"unmarked UNIMPLEMENTED", proven, says(codes.Unimplemented), hostile.Pass(), false,
			outcome{outcome: outcomeMisdeployed}},

		{"the middle refuses before the request", proven, says(codes.OK),
			give(hostile.Status(codes.PermissionDenied, "not you"), hostile.BeforeRequest), false,
			outcome{outcome: outcomeUnknown}},
		{"the middle refuses after the request", proven, says(codes.OK),
			give(hostile.Status(codes.PermissionDenied, "not you"), hostile.AfterRequest), false,
			outcome{outcome: outcomeUnknown}},
		{"403 with an HTML page", plain, says(codes.OK), give(hostile.HTTP(403, "text/html", page),
			hostile.AfterAnswer),
			false, outcome{outcome: outcomeUnknown}},
		{"404 with an HTML page", plain, says(codes.OK), give(hostile.HTTP(404, "text/html", page),
			hostile.AfterAnswer),
			false, outcome{outcome: outcomeMisdeployed}},
		{"429 with an HTML page", plain, says(codes.OK), give(hostile.HTTP(429, "text/html", page),
			hostile.AfterAnswer),
			false, outcome{outcome: outcomeUnknown}},
		{"200 with an HTML page", plain, says(codes.OK), give(hostile.HTTP(200, "text/html", page),
			hostile.AfterAnswer),
			false, outcome{outcome: outcomeUnknown}},
		{"reset: calm down", plain, says(codes.OK), give(hostile.Reset(http2.ErrCodeEnhanceYourCalm),
			hostile.AfterAnswer),
			false, outcome{outcome: outcomeThrottled}},
		{"reset: calm down, behind the headers", plain, says(codes.OK),
			give(hostile.Reset(http2.ErrCodeEnhanceYourCalm), hostile.AfterHeaders), false,
			outcome{outcome: outcomeThrottled}},
		{"reset: inadequate security", plain, says(codes.OK),
			give(hostile.Reset(http2.ErrCodeInadequateSecurity), hostile.BeforeTrailers), false,
			outcome{outcome: outcomeUnknown}},
		{"reset: refused stream, repeated by gRPC", plain, says(codes.NotFound), give(
			hostile.Reset(http2.ErrCodeRefusedStream), hostile.AfterAnswer), false,
			outcome{outcome: outcomeRefused, evidence: engine.AttemptNotRun, repeated: true}},
		{"the stream ends without trailers", plain, says(codes.OK),
			give(hostile.Upstream().EndWithoutTrailers(), 0), false, outcome{outcome: outcomeUnknown}},
		{"the connection is cut", plain, says(codes.OK), give(hostile.CloseConn(), hostile.AfterAnswer), false,
			outcome{outcome: outcomeUnknown}},

		{"stale epoch", proven, saysReason(codes.Aborted, treatyv1.ErrorReason_ERROR_REASON_STALE_EPOCH, once),
			hostile.Pass(), false,
			outcome{outcome: outcomeConflict, evidence: engine.AttemptNotRun, halt: engine.HaltReplaced}},
		{"stale epoch that the middle made up", proven,
			saysReason(codes.Aborted, treatyv1.ErrorReason_ERROR_REASON_STALE_EPOCH), hostile.Pass(), false,
			outcome{outcome: outcomeConflict}},
		{"other request", proven, saysReason(codes.Internal, treatyv1.ErrorReason_ERROR_REASON_OTHER_REQUEST, once),
			hostile.Pass(), false,
			outcome{outcome: outcomeUnknown, evidence: engine.AttemptNotRun, halt: engine.HaltOtherRequest}},
		{"purged", proven, saysReason(codes.Internal, treatyv1.ErrorReason_ERROR_REASON_PURGED, once), hostile.Pass(),
			false,
			outcome{outcome: outcomeUnknown, evidence: engine.AttemptNotRun, halt: engine.HaltPurged}},
		{"metadata that was dropped on the way", proven,
			saysReason(codes.InvalidArgument, treatyv1.ErrorReason_ERROR_REASON_METADATA_INVALID, once), hostile.Pass(),
			false,
			outcome{outcome: outcomeMisdeployed, evidence: engine.AttemptNotRun}},
		{"epoch ahead", proven, saysReason(codes.Unauthenticated, treatyv1.ErrorReason_ERROR_REASON_EPOCH_AHEAD, once),
			hostile.Pass(), false, outcome{outcome: outcomeMisdeployed, evidence: engine.AttemptNotRun}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			upstream := serve(t, anyPort, test.handler)
			middle, err := hostile.Listen(upstream.addr, hostile.Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(middle.Close)
			var calls atomic.Int32
			middle.Program(func(*hostile.Call) hostile.Plan {
				if calls.Add(1) > 1 {
					return hostile.Pass() // gRPC has repeated the call
				}
				return test.plan
			})
			d := dispatcher(t, middle.Addr(), func(c *testConfig) { c.Participants[0].Answers = test.answers })
			a := attempt()
			if test.pending {
				a.Call.CompleteWithin = time.Hour
			}
			if got := outcomeOf(d.Attempt(t.Context(), a)); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
			if !test.pending {
				return
			}
			calls.Store(0)
			a.Call.CompleteWithin, a.Call.OfSaga = 0, true
			if got := outcomeOf(d.Attempt(t.Context(), a)); got != test.want {
				t.Errorf("of a saga: got %+v, want %+v", got, test.want)
			}
		})
	}
}

// TestNeverSent makes attempts that certainly don't leave this process.
func TestNeverSent(t *testing.T) {
	closedPort := func() string {
		listener, err := net.Listen("tcp", anyPort)
		if err != nil {
			t.Fatal(err)
		}
		_ = listener.Close()
		return listener.Addr().String()
	}
	want := outcome{outcome: outcomeUnknown, evidence: engine.AttemptNotRun}
	d := dispatcher(t, closedPort())
	if got := outcomeOf(d.Attempt(t.Context(), attempt())); got != want {
		t.Errorf("a refused connection: got %+v, want %+v", got, want)
	}
	other := attempt()
	other.Call.Method = "acme.other.v1.OtherService/Do"
	want.outcome = outcomeMisdeployed
	if got := outcomeOf(d.Attempt(t.Context(), other)); got != want {
		t.Errorf("no participant: got %+v, want %+v", got, want)
	}
	if err := d.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	want.outcome = outcomeUnknown
	if got := outcomeOf(d.Attempt(t.Context(), attempt())); got != want {
		t.Errorf("after Close: got %+v, want %+v", got, want)
	}
	up := serve(t, anyPort, echo)
	small := dispatcher(t, up.addr, func(c *testConfig) { c.MaxMessageBytes = 3 })
	want.outcome = outcomeRefused
	if got := outcomeOf(small.Attempt(t.Context(), attempt())); got != want {
		t.Errorf("a request that is too large: got %+v, want %+v", got, want)
	}
}

// TestUnmarkedThenRefused is the story of a gateway: it passes the first call on and answers it itself, and refuses the
// second one itself.
func TestUnmarkedThenRefused(t *testing.T) {
	var executed atomic.Int32
	upstream := serve(t, anyPort, func(context.Context, []byte) ([]byte, error) {
		executed.Add(1)
		return []byte{}, nil
	})
	middle, err := hostile.Listen(upstream.addr, hostile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(middle.Close)
	middle.Program(func(call *hostile.Call) hostile.Plan {
		if call.Number%2 == 1 {
			return hostile.Give(hostile.Status(codes.Unavailable, "try later"), hostile.AfterAnswer)
		}
		return hostile.Give(hostile.Status(codes.PermissionDenied, "blocked"), hostile.BeforeRequest)
	})
	for _, answers := range []Answers{AnswersProven, AnswersPlain} {
		d := dispatcher(t, middle.Addr(), func(c *testConfig) { c.Participants[0].Answers = answers })
		first, second := d.Attempt(t.Context(), attempt()), d.Attempt(t.Context(), attempt())
		if first.Evidence != engine.NoEvidence || second.Evidence == engine.Settled {
			t.Errorf("answers %v: the first proves %v, the second %v", answers, first.Evidence, second.Evidence)
		}
	}
	if executed.Load() != 2 {
		t.Errorf("executed %d times, want once for each of two commands", executed.Load())
	}
}

// TestStaleEpochOfAnotherStore tells an epoch that has replaced this store's from one that was dropped on the way.
func TestStaleEpochOfAnotherStore(t *testing.T) {
	for known, want := range map[string]engine.Halt{
		"": engine.HaltReplaced, "101": engine.HaltReplaced, "100": engine.NoHalt, "7": engine.NoHalt,
	} {
		up := serve(t, anyPort, func(ctx context.Context, _ []byte) ([]byte, error) {
			_ = grpc.SetTrailer(ctx, metadata.Pairs(wire.AnswerKey, wire.AnswerAttempt))
			info := &errdetails.ErrorInfo{
				Domain: wire.ErrorDomain, Reason: wire.Reason(treatyv1.ErrorReason_ERROR_REASON_STALE_EPOCH),
			}
			if known != "" {
				info.Metadata = map[string]string{wire.ErrorEpoch: known}
			}
			st, err := status.New(codes.Aborted, "stale").WithDetails(info)
			if err != nil {
				return nil, err
			}
			return nil, st.Err()
		})
		me, _ := self()
		d := dispatcher(t, up.addr, func(c *testConfig) { c.Self = me })
		awaitOpen(t, d)
		if got := d.Attempt(t.Context(), ofEpoch()); got.Halt != want || got.Evidence != engine.AttemptNotRun {
			t.Errorf("known %q: got %+v", known, outcomeOf(got))
		} else if later := got.LaterEpoch; later != 0 && strconv.FormatUint(later, 10) != known {
			t.Errorf("known %q: the later epoch is %d", known, later)
		} else if known == "101" && later == 0 {
			t.Error("the later epoch is lost")
		}
	}
}
