package hostile_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/treatyhq/treaty/internal/hostile"
	"github.com/treatyhq/treaty/internal/testkit"
)

func everything() hostile.Chances {
	chances := hostile.Each(1.0 / 14)
	chances.MaxStall, chances.MaxLate = 20*time.Millisecond, 20*time.Millisecond
	chances.MetadataKeys, chances.TrailerKeys = []string{"x-gone"}, []string{markKey}
	return chances
}

// Under the random program, every call and every delivery ends, and no success is made up: a reply means that the
// upstream executed.
func TestRandomProgramEnds(t *testing.T) {
	const callers, each = 8, 50
	u := startUpstream(t)
	middle := startMiddle(t, u.address, hostile.Options{})
	middle.Program(hostile.Random(1, everything()))
	var succeeded atomic.Int64
	var running sync.WaitGroup
	for i := range callers {
		conn := dial(t, middle)
		running.Go(func() {
			for j := range each {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				if j%10 == 9 {
					chatBriefly(ctx, conn)
				} else {
					request := fmt.Sprintf("%d/%d %s", i, j, strings.Repeat("x", j*1000))
					got := call(ctx, conn, echoMethod, request)
					if got.err == nil {
						succeeded.Add(1)
						if got.reply != request {
							t.Errorf("another reply than the request's: %d bytes", len(got.reply))
						}
					}
					if ctx.Err() != nil {
						t.Errorf("call %d/%d didn't end", i, j)
					}
				}
				cancel()
			}
		})
	}
	running.Wait()
	if err := middle.Await(patient(t), func(calls []hostile.Record) bool {
		return !slices.ContainsFunc(calls, func(r hostile.Record) bool { return !r.Finished })
	}); err != nil {
		t.Fatal(err)
	}
	if n := succeeded.Load(); n == 0 || int(n) > u.executions() {
		t.Errorf("%d calls succeeded, and the upstream executed %d", n, u.executions())
	}
	counts := middle.Counts()
	for _, sort := range []string{
		"status ", "HTTP ", "RST_STREAM ", "GOAWAY ", "closed connection", "stall", "half-open", "delayed",
		"answer, late", "without metadata", "without its trailers", "without its message", "message twice",
		"late delivery", "2 deliveries",
	} {
		if !slices.ContainsFunc(middle.Calls(), func(r hostile.Record) bool { return strings.Contains(r.Plan, sort) }) {
			t.Errorf("no plan is %q: %v", sort, counts)
		}
	}
}

func chatBriefly(ctx context.Context, conn *grpc.ClientConn) {
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, chatMethod)
	if err != nil {
		return
	}
	_ = stream.SendMsg(wrapperspb.Bytes([]byte("hello")))
	_ = stream.CloseSend()
	var received error
	for received == nil {
		received = stream.RecvMsg(new(wrapperspb.BytesValue))
	}
}

// Plans depend on the seed and the call's number alone.
func TestRandomProgramRepeats(t *testing.T) {
	plans := func(seed uint64) []string {
		program := hostile.Random(seed, everything())
		var plans []string
		for n := range 100 {
			plans = append(plans, program(&hostile.Call{Number: n + 1}).String())
		}
		return plans
	}
	if !slices.Equal(plans(7), plans(7)) {
		t.Error("the same seed gives other plans")
	}
	if slices.Equal(plans(7), plans(8)) {
		t.Error("another seed gives the same plans")
	}
}

func TestRandomProgramSpares(t *testing.T) {
	program := hostile.Random(1, hostile.Chances{Status: 1, Codes: []codes.Code{codes.NotFound},
		Spare: func(call *hostile.Call) bool { return call.Method == "/spared" }})
	if plan := program(&hostile.Call{Method: "/spared"}); plan.String() != hostile.Pass().String() {
		t.Errorf("a spared call gets %s", plan)
	}
	if plan := program(&hostile.Call{Method: "/other"}); !strings.HasPrefix(plan.String(), "status NotFound") {
		t.Errorf("another call gets %s", plan)
	}
}

// A program of chances that are all 0 passes everything on.
func TestRandomProgramWithoutChances(t *testing.T) {
	u := startUpstream(t)
	middle := startMiddle(t, u.address, hostile.Options{})
	middle.Program(hostile.Random(1, hostile.Chances{}))
	conn := testkit.Dial(t, middle.Addr())
	for range 20 {
		if got := call(patient(t), conn, echoMethod, "hello"); got.err != nil {
			t.Error(got.err)
		}
	}
}
