package client_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/treatyhq/treaty/client"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	benchv1 "github.com/treatyhq/treaty/gen/bench/v1"
)

// answer is what a call comes to.
type answer struct {
	takes time.Duration // less if its context ends
	saga  string        // in the header
	err   error         // nil: the reply
}

// caller is a method of a generated client that gives one answer after another, and the last one from then on.
type caller struct {
	answers []answer

	began    []time.Time
	requests []proto.Message
	ids      []string // in the metadata
}

func call[Request proto.Message](c *caller) func(
	context.Context, Request, ...grpc.CallOption,
) (*customerv1.AddressAgreed, error) {
	return func(ctx context.Context, in Request, options ...grpc.CallOption) (*customerv1.AddressAgreed, error) {
		now := c.answers[min(len(c.began), len(c.answers)-1)]
		if len(c.began) == 100 {
			now = answer{err: status.Error(codes.FailedPrecondition, "a hundred calls")}
		}
		c.began = append(c.began, time.Now())
		c.requests = append(c.requests, in)
		md, _ := metadata.FromOutgoingContext(ctx)
		c.ids = append(c.ids, strings.Join(md.Get("treaty-request-id"), ","))
		for _, option := range options {
			if header, ok := option.(grpc.HeaderCallOption); ok && now.saga != "" {
				*header.HeaderAddr = metadata.Pairs("treaty-saga", now.saga)
			}
		}
		select {
		case <-time.After(now.takes):
			if now.err != nil {
				return nil, now.err
			}
			return &customerv1.AddressAgreed{AddressRevision: 2}, nil
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		}
	}
}

func change(id string) *customerv1.ChangeAddressSagaRequest {
	return &customerv1.ChangeAddressSagaRequest{RequestId: id, Customer: "customers/ada"}
}

var down = status.Error(codes.Unavailable, "connection refused")

// TestRunPauses measures the pauses between calls.
func TestRunPauses(t *testing.T) {
	const ms, s = time.Millisecond, time.Second
	overloaded := failure(t, codes.ResourceExhausted, "OVERLOADED",
		&errdetails.RetryInfo{RetryDelay: durationpb.New(7 * s)})
	for name, test := range map[string]struct {
		answers []answer
		want    []time.Duration // the longest pauses; the shortest are half as long
		least   time.Duration   // of which this is left out
	}{
		"down": {answers: []answer{{err: down}, {err: down}, {err: down}, {err: down}, {err: down}, {err: down},
			{err: down}, {err: down}, {}},
			want: []time.Duration{100 * ms, 200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, 5 * s, 5 * s}},
		"as the orchestrator asks": {answers: []answer{{err: overloaded}, {}}, want: []time.Duration{100 * ms},
			least: 7 * s},
		"broken after a while": {answers: []answer{{err: down}, {err: down}, {takes: 6 * s, saga: "sagas/a", err: down},
			{}}, want: []time.Duration{100 * ms, 200 * ms, 100 * ms}},
		"broken at once, each time": {answers: []answer{{saga: "sagas/a", err: down}, {saga: "sagas/a", err: down},
			{saga: "sagas/a", err: down}, {}}, want: []time.Duration{100 * ms, 200 * ms, 400 * ms}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &caller{answers: test.answers}
				agreed, err := client.Run(t.Context(), call[*customerv1.ChangeAddressSagaRequest](c), change("r"))
				if err != nil || agreed.GetAddressRevision() != 2 || len(c.began) != len(test.answers) {
					t.Fatalf("%v, %v after %d calls", agreed, err, len(c.began))
				}
				for i, most := range test.want {
					pause := c.began[i+1].Sub(c.began[i]) - test.answers[i].takes - test.least
					if pause < most/2 || pause > most {
						t.Errorf("pause %d is %v; want %v to %v", i+1, pause, most/2, most)
					}
				}
			})
		})
	}
}

// TestRunKeepsRequestID repeats calls whose request id the caller has set, in a field or in the metadata, or hasn't.
func TestRunKeepsRequestID(t *testing.T) {
	failing := []answer{{err: down}, {err: down}, {}}
	for name, given := range map[string]string{"made": "", "given": "given"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				if given != "" {
					ctx = metadata.AppendToOutgoingContext(ctx, "treaty-request-id", given)
				}
				var told string
				tell := client.OnRequestID(func(id string) { told = id })
				fields, in := &caller{answers: failing}, change("")
				if _, err := client.Run(ctx, call[*customerv1.ChangeAddressSagaRequest](fields), in, tell); err != nil {
					t.Fatal(err)
				}
				for _, request := range fields.requests {
					if id := request.(*customerv1.ChangeAddressSagaRequest).GetRequestId(); id != told || id == "" {
						t.Errorf("a call has the request id %q; the first one had %q", id, told)
					}
				}
				if in.GetRequestId() != "" {
					t.Error("the caller's request was changed")
				}
				if given != "" && told != given {
					t.Errorf("the request id is %q", told)
				}
				// A request without a field.
				none := &caller{answers: failing}
				if _, err := client.Run(ctx, call[*benchv1.RunRequest](none), &benchv1.RunRequest{}, tell); err != nil {
					t.Fatal(err)
				}
				for _, id := range none.ids {
					if id != told || id == "" || given != "" && id != given {
						t.Errorf("a call has the request id %q in its metadata; the first one had %q", id, told)
					}
				}
			})
		})
	}
}

// TestRunNoticesSecondSaga calls through something that drops the request id.
func TestRunNoticesSecondSaga(t *testing.T) {
	for name, last := range map[string]answer{
		"succeeded": {saga: "sagas/b"},
		"failed":    {saga: "sagas/b", err: failure(t, codes.FailedPrecondition, "SAGA_COMPENSATED")},
		"waits":     {saga: "sagas/b", err: down},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &caller{answers: []answer{{saga: "sagas/a", err: down}, {err: down}, last}}
				agreed, err := client.Run(t.Context(), call[*benchv1.RunRequest](c), &benchv1.RunRequest{})
				if agreed != nil || err == nil || len(c.began) != 3 {
					t.Fatalf("%v, %v after %d calls", agreed, err, len(c.began))
				}
				for _, want := range []string{"sagas/a", "sagas/b", "treaty-request-id", c.ids[0]} {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("the error doesn't name %q: %v", want, err)
					}
				}
				if !client.Unknown(err) || client.Compensated(err) {
					t.Errorf("the sagas aren't unknown: %v", err)
				}
			})
		})
	}
}

// TestRunGivesUpOnInternal calls through something that answers INTERNAL in the orchestrator's place.
func TestRunGivesUpOnInternal(t *testing.T) {
	strange := status.Error(codes.Internal, "stream terminated by RST_STREAM")
	for name, test := range map[string]struct {
		answers []answer
		calls   int
		ends    bool // with the reply
	}{
		"always":          {answers: []answer{{err: strange}}, calls: 8},
		"with the header": {answers: []answer{{saga: "sagas/a", err: strange}}, calls: 8},
		"seven times":     {answers: append(repeat(7, answer{err: strange}), answer{}), calls: 8, ends: true},
		"between": {answers: append(repeat(7, answer{err: strange}), answer{err: down}, answer{err: strange}),
			calls: 16},
		"after long waits": {calls: 31, ends: true,
			answers: append(repeat(30, answer{saga: "sagas/a", takes: 6 * time.Second, err: strange}), answer{})},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &caller{answers: test.answers}
				_, err := client.Run(t.Context(), call[*customerv1.ChangeAddressSagaRequest](c), change("r-7"))
				if test.ends != (err == nil) || len(c.began) != test.calls {
					t.Fatalf("%v after %d calls; want %d", err, len(c.began), test.calls)
				}
				if test.ends {
					return
				}
				if status.Code(err) != codes.Internal || !errors.Is(err, strange) || !client.Unknown(err) ||
					!strings.Contains(err.Error(), `"r-7"`) {
					t.Errorf("the error doesn't say that nothing is known, and how to go on: %v", err)
				}
			})
		})
	}
}

func repeat(n int, a answer) []answer {
	var all []answer
	for range n {
		all = append(all, a)
	}
	return all
}

// TestRunStopsWithItsContext ends the context during a call and during a pause.
func TestRunStopsWithItsContext(t *testing.T) {
	const s = time.Second
	for name, test := range map[string]struct {
		answers []answer
		cancel  bool
	}{
		"call":          {answers: []answer{{takes: time.Hour, saga: "sagas/a"}}},
		"call, another": {answers: []answer{{err: down}, {takes: time.Hour, saga: "sagas/a"}}},
		"cancelled":     {answers: []answer{{takes: time.Hour, saga: "sagas/a"}}, cancel: true},
		"pause":         {answers: []answer{{saga: "sagas/a", err: down}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 20*s)
				defer cancel()
				code, cause := codes.DeadlineExceeded, context.DeadlineExceeded
				if test.cancel {
					ctx, cancel = context.WithCancel(t.Context())
					time.AfterFunc(20*s, cancel)
					code, cause = codes.Canceled, context.Canceled
				}
				begin := time.Now()
				c := &caller{answers: test.answers}
				_, err := client.Run(ctx, call[*customerv1.ChangeAddressSagaRequest](c), change("r-7"))
				if passed := time.Since(begin); passed != 20*s {
					t.Errorf("ended after %v, want 20s", passed)
				}
				if !errors.Is(err, cause) || status.Code(err) != code || !client.Unknown(err) ||
					client.Saga(err) != "sagas/a" || !strings.Contains(err.Error(), `"r-7"`) {
					t.Errorf("error %v", err)
				}
			})
		})
	}
}

// TestAttemptTimeout calls over connections that are dead without a sign.
func TestAttemptTimeout(t *testing.T) {
	const s = time.Second
	for name, test := range map[string]struct {
		options []grpc.CallOption
		want    time.Duration // after which the second call follows, after a short pause; 0: there is none
	}{
		"default":   {want: client.DefaultAttemptTimeout},
		"short":     {options: []grpc.CallOption{client.AttemptTimeout(3 * s)}, want: 3 * s},
		"unlimited": {options: []grpc.CallOption{client.AttemptTimeout(0)}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &caller{answers: []answer{{takes: time.Hour}, {}}}
				_, err := client.Run(t.Context(), call[*customerv1.ChangeAddressSagaRequest](c), change("r"),
					test.options...)
				if err != nil {
					t.Fatal(err)
				}
				switch {
				case test.want == 0 && len(c.began) != 1:
					t.Errorf("%d calls, want 1", len(c.began))
				case test.want == 0:
				case len(c.began) != 2:
					t.Errorf("%d calls, want 2", len(c.began))
				default:
					after := c.began[1].Sub(c.began[0])
					if after < test.want || after > test.want+100*time.Millisecond {
						t.Errorf("the second call followed after %v, want %v", after, test.want)
					}
				}
			})
		})
	}
}
