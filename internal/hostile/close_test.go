package hostile_test

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/treatyhq/treaty/internal/hostile"
)

// Close ends everything: calls of every sort, held deliveries, and all goroutines.
func TestCloseEndsEverything(t *testing.T) {
	u := startUpstream(t)
	middle, err := hostile.Listen(u.address, hostile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	plans := []hostile.Plan{
		hostile.Pass().Held(make(chan struct{})), hostile.Pass().Delayed(time.Hour), hostile.Swallow(),
		hostile.Pass().And(hostile.Delivery{Until: make(chan struct{})}),
		hostile.Give(hostile.Stall(), hostile.AfterAnswer), hostile.Give(hostile.HalfOpen(), hostile.AfterAnswer),
		{Answer: hostile.Upstream().Held(make(chan struct{}))},
	}
	middle.Program(func(call *hostile.Call) hostile.Plan { return plans[call.Number-1] })
	results := make(chan answer, len(plans))
	for range plans {
		conn := dial(t, middle)
		go func() { results <- call(patient(t), conn, echoMethod, "") }()
	}
	all := func(calls []hostile.Record) bool { return len(calls) == len(plans) }
	if err := middle.Await(patient(t), all); err != nil {
		t.Fatal(err)
	}
	middle.Close()
	for i, record := range middle.Calls() {
		if !record.Finished {
			t.Errorf("call %d isn't finished: %s", i+1, record)
		}
	}
	for range plans {
		<-results
	}
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for stack := range strings.SplitSeq(string(stacks), "\n\n") {
		if strings.Contains(stack, "hostile.(*Middle).") || strings.Contains(stack, "hostile.(*side).") ||
			strings.Contains(stack, "hostile.(*stream).") || strings.Contains(stack, "hostile.(*delivery).") {
			t.Errorf("a goroutine is left:\n%s", stack)
		}
	}
	middle.Close() // Closing twice does no harm.
}

func TestRecordsOfTheNewestCallsAreKept(t *testing.T) {
	u := startUpstream(t)
	middle := startMiddle(t, u.address, hostile.Options{Keep: 2})
	conn := dial(t, middle)
	for range 5 {
		if got := call(patient(t), conn, echoMethod, ""); got.err != nil {
			t.Fatal(got.err)
		}
	}
	calls := finished(t, middle, 5)
	if len(calls) != 2 || calls[0].Call.Number != 4 || calls[1].Call.Number != 5 {
		t.Errorf("kept %v", calls)
	}
	if counts := middle.Counts(); counts[hostile.Pass().String()] != 5 {
		t.Errorf("counted %v", counts)
	}
}

func TestAwaitNamesTheCalls(t *testing.T) {
	_, middle, conn := start(t, hostile.Pass())
	if got := call(patient(t), conn, echoMethod, ""); got.err != nil {
		t.Fatal(got.err)
	}
	finished(t, middle, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := middle.Finished(ctx, 2)
	if err == nil {
		t.Fatal("the wait succeeded")
	}
	checkContains(t, "the error", err.Error(), echoMethod)
}
