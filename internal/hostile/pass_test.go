package hostile_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/treatyhq/treaty/internal/hostile"
	"github.com/treatyhq/treaty/internal/testkit"
)

// megabytes is the size of a large message.
const megabytes = 3 << 20

// The middle changes no metadata of either side.
func TestMetadataPasses(t *testing.T) {
	u := startUpstream(t)
	middle := startMiddle(t, u.address, hostile.Options{})
	seen := make(chan hostile.Call, 1)
	middle.Program(func(call *hostile.Call) hostile.Plan {
		seen <- *call
		return hostile.Pass()
	})
	sent := metadata.Pairs("x-many", "a", "x-many", "b", "x-many", "a", "x-empty", "", "x-data-bin", "\x00\x01\xff",
		"x-data-bin", "", "x-long", strings.Repeat("long ", 10_000))
	var answers []answer
	var got []metadata.MD
	for _, address := range []string{u.address, middle.Addr()} {
		conn := testkit.Dial(t, address, grpc.WithAuthority("the.authority"), grpc.WithUserAgent("the-agent"))
		before := time.Now()
		ctx, cancel := context.WithTimeout(metadata.NewOutgoingContext(t.Context(), sent), patience)
		defer cancel()
		answers = append(answers, call(ctx, conn, echoMethod, "hello"))
		md, deadline := u.received()
		got = append(got, md)
		if left := deadline.Sub(before); left <= patience/2 || left > patience+patience/2 {
			t.Errorf("the upstream got a deadline in %v, want %v", left, patience)
		}
	}
	if diff := cmp.Diff(got[0], got[1]); diff != "" {
		t.Errorf("the middle changes the request's metadata (-without +with):\n%s", diff)
	}
	if answers[0].err != nil || answers[1].err != nil {
		t.Fatal(answers[0].err, answers[1].err)
	}
	if diff := cmp.Diff([]any{answers[0].reply, answers[0].headers, answers[0].trailer},
		[]any{answers[1].reply, answers[1].headers, answers[1].trailer}); diff != "" {
		t.Errorf("the middle changes the answer (-without +with):\n%s", diff)
	}
	c := <-seen
	if c.Method != echoMethod || c.Number != 1 || c.PerMethod != 1 || c.Connection != 1 {
		t.Errorf("the program saw %+v", c)
	}
	for key, values := range sent {
		if diff := cmp.Diff(values, c.Metadata.Get(key)); diff != "" {
			t.Errorf("the program saw other values of %s:\n%s", key, diff)
		}
	}
}

func TestLargeMessagesPass(t *testing.T) {
	u := startUpstream(t)
	middle := startMiddle(t, u.address, hostile.Options{})
	for name, options := range map[string][]grpc.DialOption{
		"dynamic windows": nil,
		"small windows":   {grpc.WithStaticStreamWindowSize(1 << 16), grpc.WithStaticConnWindowSize(1 << 16)},
	} {
		t.Run(name, func(t *testing.T) {
			conn := testkit.Dial(t, middle.Addr(),
				append(options, grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(2*megabytes)))...)
			message := strings.Repeat("0123456789abcdef", megabytes/16)
			results := make(chan answer)
			const parallel = 4
			for range parallel {
				go func() { results <- call(patient(t), conn, echoMethod, message) }()
			}
			for range parallel {
				if got := <-results; got.err != nil || got.reply != message {
					t.Errorf("got %d bytes of %d, error %v", len(got.reply), len(message), got.err)
				}
			}
		})
	}
}

// The plans that repeat or withhold messages can cope with large ones.
func TestLargeMessagesOfOtherPlans(t *testing.T) {
	message := strings.Repeat("0123456789abcdef", megabytes/16)
	for _, s := range []struct {
		name     string
		plan     hostile.Plan
		code     codes.Code
		executed int
	}{
		{"duplicate", hostile.Pass().Twice(), codes.OK, 2},
		{"late", hostile.Give(hostile.Status(codes.Aborted, ""), hostile.BeforeRequest).And(hostile.Delivery{}),
			codes.Aborted, 1},
		{"two messages", hostile.Plan{Answer: hostile.Upstream().TwoMessages()}, codes.Internal, 1},
		{"GOAWAY after the answer", hostile.Give(hostile.GoAway(http2.ErrCodeNo), hostile.AfterAnswer), codes.OK, 1},
		{"status before the request", hostile.Give(hostile.Status(codes.Aborted, ""), hostile.BeforeRequest),
			codes.Aborted, 0},
	} {
		t.Run(s.name, func(t *testing.T) {
			u, middle, conn := start(t, s.plan)
			got := call(patient(t), conn, echoMethod, message)
			if got.code() != s.code || got.err == nil && got.reply != message {
				t.Errorf("got %v, want %v", got.err, s.code)
			}
			finished(t, middle, 1)
			if executed := u.executions(); executed != s.executed {
				t.Errorf("the upstream executed %d times, want %d", executed, s.executed)
			}
		})
	}
}

func openChat(ctx context.Context, t *testing.T, conn *grpc.ClientConn, method string) grpc.ClientStream {
	t.Helper()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func TestStreamsPass(t *testing.T) {
	_, middle, conn := start(t, hostile.Pass())
	stream := openChat(patient(t), t, conn, chatMethod)
	for i := range 20 {
		sent := wrapperspb.Bytes(bytes.Repeat([]byte{byte(i)}, 1<<i))
		if err := stream.SendMsg(sent); err != nil {
			t.Fatal(err)
		}
		got := new(wrapperspb.BytesValue)
		if err := stream.RecvMsg(got); err != nil || !bytes.Equal(got.GetValue(), sent.GetValue()) {
			t.Fatalf("message %d came back with %d bytes, error %v", i, len(got.GetValue()), err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := stream.RecvMsg(new(wrapperspb.BytesValue)); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v", err)
	}
	if mark := stream.Trailer().Get(markKey); len(mark) != 1 {
		t.Errorf("got trailers %v", stream.Trailer())
	}
	if record := finished(t, middle, 1)[0]; record.Ending != hostile.Answered || record.GRPCStatus != "0" {
		t.Errorf("got record %s", record)
	}
}

// A plan finds its place in a stream that goes on.
func TestStrikesInStreams(t *testing.T) {
	for _, at := range []hostile.Place{
		hostile.BeforeRequest, hostile.AfterRequest, hostile.AfterHeaders, hostile.BeforeTrailers,
	} {
		t.Run(at.String(), func(t *testing.T) {
			_, middle, conn := start(t, hostile.Give(hostile.Status(codes.DataLoss, "struck"), at))
			stream := openChat(patient(t), t, conn, chatMethod)
			if err := stream.SendMsg(wrapperspb.Bytes(nil)); err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			if at == hostile.BeforeTrailers {
				if err := stream.RecvMsg(new(wrapperspb.BytesValue)); err != nil {
					t.Fatal(err)
				}
				if err := stream.CloseSend(); err != nil {
					t.Fatal(err)
				}
			}
			if err := stream.RecvMsg(new(wrapperspb.BytesValue)); status.Code(err) != codes.DataLoss {
				t.Errorf("the stream ended with %v", err)
			}
			finished(t, middle, 1)
		})
	}
}

func TestCancellationPasses(t *testing.T) {
	u, middle, conn := start(t, hostile.Pass())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan answer)
	go func() { done <- call(ctx, conn, hangMethod, "") }()
	wait(t, u.hanging, "the upstream has the call")
	cancel()
	if got := <-done; got.code() != codes.Canceled {
		t.Errorf("got %v", got.err)
	}
	wait(t, u.canceled, "the upstream hears of the cancellation")
	record := finished(t, middle, 1)[0]
	if record.Ending != hostile.GaveUp || record.ErrCode != http2.ErrCodeCancel {
		t.Errorf("got record %s", record)
	}
}

// A client that closes its connection cancels its calls.
func TestClosedConnectionPasses(t *testing.T) {
	u, middle, conn := start(t, hostile.Pass())
	done := make(chan answer)
	go func() { done <- call(patient(t), conn, hangMethod, "") }()
	wait(t, u.hanging, "the upstream has the call")
	_ = conn.Close()
	<-done
	wait(t, u.canceled, "the upstream hears of the cancellation")
	finished(t, middle, 1)
}

// What a plan does to the client doesn't reach the upstream.
func TestUpstreamGoesOnAfterAStrike(t *testing.T) {
	for name, answer := range map[string]hostile.Answer{
		"reset": hostile.Reset(http2.ErrCodeCancel), "close": hostile.CloseConn(),
		"status": hostile.Status(codes.Unavailable, ""),
	} {
		t.Run(name, func(t *testing.T) {
			u, middle, conn := start(t, hostile.Give(answer, hostile.AfterRequest))
			if got := call(patient(t), conn, hangMethod, ""); got.err == nil {
				t.Fatal("the call succeeded")
			}
			_ = conn.Close()
			wait(t, u.hanging, "the upstream has the call")
			if record := middle.Calls()[0]; record.Finished || !record.Struck || !record.Deliveries[0].Whole {
				t.Errorf("got record %s", record)
			}
			close(u.release)
			if record := finished(t, middle, 1)[0]; record.Deliveries[0].GRPCStatus != "0" {
				t.Errorf("got record %s", record)
			}
		})
	}
}

// A server that stops gracefully finishes its calls, and the client connects again.
func TestGracefulStopPasses(t *testing.T) {
	u, middle, conn := start(t, hostile.Pass())
	stream := openChat(patient(t), t, conn, chatMethod)
	if err := stream.SendMsg(wrapperspb.Bytes(nil)); err != nil {
		t.Fatal(err)
	}
	if err := stream.RecvMsg(new(wrapperspb.BytesValue)); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	go func() {
		u.server.GracefulStop()
		close(stopped)
	}()
	if !conn.WaitForStateChange(patient(t), connectivity.Ready) {
		t.Fatal("the client wasn't told that the server goes away")
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := stream.RecvMsg(new(wrapperspb.BytesValue)); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v", err)
	}
	wait(t, stopped, "the server has stopped")
	if got := call(patient(t), conn, echoMethod, ""); got.code() != codes.Unavailable {
		t.Errorf("a call of the stopped server got %v", got.err)
	}
	if calls := middle.Calls(); len(calls) != 1 {
		t.Errorf("the middle took %d calls", len(calls))
	}
}

// A server that dies takes the client's connection with it.
func TestDeadUpstreamPasses(t *testing.T) {
	u, middle, conn := start(t, hostile.Pass())
	done := make(chan answer)
	go func() { done <- call(patient(t), conn, hangMethod, "") }()
	wait(t, u.hanging, "the upstream has the call")
	u.server.Stop()
	if got := <-done; got.code() != codes.Unavailable {
		t.Errorf("got %v", got.err)
	}
	if record := finished(t, middle, 1)[0]; record.Ending != hostile.Closed || !record.Deliveries[0].Whole {
		t.Errorf("got record %s", record)
	}
}

// Calls that are held back don't keep the client's connection alive without its upstream.
func TestDeadUpstreamWithHeldCalls(t *testing.T) {
	release := make(chan struct{})
	for name, plan := range map[string]hostile.Plan{
		"request": hostile.Pass().Held(release), "answer": {Answer: hostile.Upstream().Held(release)},
	} {
		t.Run(name, func(t *testing.T) {
			u, middle, conn := start(t, plan)
			done := make(chan answer)
			go func() { done <- call(patient(t), conn, echoMethod, "") }()
			one := func(calls []hostile.Record) bool { return len(calls) == 1 }
			if err := middle.Await(patient(t), one); err != nil {
				t.Fatal(err)
			}
			u.server.Stop()
			if got := <-done; got.code() != codes.Unavailable {
				t.Errorf("got %v", got.err)
			}
		})
	}
}

// A client can't tell a middle in front of nothing from nothing: the call's headers are never written.
func TestUpstreamThatIsDown(t *testing.T) {
	middle := startMiddle(t, testkit.UnusedAddress(t), hostile.Options{})
	got := call(patient(t), dial(t, middle), echoMethod, "")
	if got.code() != codes.Unavailable || len(middle.Calls()) != 0 {
		t.Errorf("got %v, and %d calls", got.err, len(middle.Calls()))
	}
}

func TestMiddleThatStandsAlone(t *testing.T) {
	middle := startMiddle(t, testkit.UnusedAddress(t), hostile.Options{Alone: true})
	middle.Program(first(hostile.Give(hostile.HTTP(503, "text/html", "down"), hostile.BeforeRequest)))
	conn := dial(t, middle)
	got := call(patient(t), conn, echoMethod, "")
	if got.code() != codes.Unavailable {
		t.Errorf("got %v", got.err)
	}
	checkContains(t, "the error", got.err.Error(), "503")
	if got := call(patient(t), conn, echoMethod, ""); got.code() != codes.Unavailable {
		t.Errorf("got %v", got.err)
	}
	records := finished(t, middle, 2)
	if records[1].Ending != hostile.Closed || records[1].Deliveries[0].Opened {
		t.Errorf("got record %s", records[1])
	}
}

// The upstream's limit of concurrent streams holds for clients of the middle, whatever else goes up.
func TestLimitOfStreamsPasses(t *testing.T) {
	u := startUpstream(t, grpc.MaxConcurrentStreams(1))
	middle := startMiddle(t, u.address, hostile.Options{})
	middle.Program(func(*hostile.Call) hostile.Plan { return hostile.Pass().Twice().And(hostile.Delivery{}) })
	conn := dial(t, middle)
	const calls = 20
	results := make(chan answer)
	for range calls {
		go func() { results <- call(patient(t), conn, echoMethod, "") }()
	}
	for range calls {
		if got := <-results; got.err != nil {
			t.Error(got.err)
		}
	}
	finished(t, middle, calls)
	if executed := u.executions(); executed != 3*calls {
		t.Errorf("the upstream executed %d times, want %d", executed, 3*calls)
	}
}

// Keepalive pings are answered by the other end.
func TestPingsPass(t *testing.T) {
	u := startUpstream(t, grpc.KeepaliveEnforcementPolicy(
		keepalive.EnforcementPolicy{MinTime: time.Hour, PermitWithoutStream: false}))
	middle := startMiddle(t, u.address, hostile.Options{})
	peer := newRawClient(t, middle.Addr())
	peer.ping([8]byte{1, 2, 3})
	if got := peer.until(http2.FramePing).(*http2.PingFrame); !got.IsAck() || got.Data != [8]byte{1, 2, 3} {
		t.Errorf("got %v", got)
	}
	// The upstream complains about too many, so they did reach it.
	for range 3 {
		peer.ping([8]byte{})
	}
	goAway := peer.until(http2.FrameGoAway).(*http2.GoAwayFrame)
	if goAway.ErrCode != http2.ErrCodeEnhanceYourCalm || string(goAway.DebugData()) != "too_many_pings" {
		t.Errorf("got %v", goAway)
	}
}

// The upstream gets no pings for data that it didn't send: it would close the connection.
func TestPingsForOwnDataStayInTheMiddle(t *testing.T) {
	const calls = 8
	for _, s := range []struct {
		name string
		plan hostile.Plan
		size int
	}{
		{"small page", hostile.Give(hostile.HTTP(502, "text/html", "page"), hostile.BeforeRequest), 0},
		{"large message", hostile.Plan{Answer: hostile.Upstream().TwoMessages()}, megabytes},
	} {
		t.Run(s.name, func(t *testing.T) {
			_, middle, conn := start(t, hostile.Pass())
			middle.Program(func(*hostile.Call) hostile.Plan { return s.plan })
			for n := range calls {
				if got := call(patient(t), conn, echoMethod, strings.Repeat("x", s.size)); got.err == nil {
					t.Errorf("call %d got a reply", n+1)
				}
			}
			for _, record := range finished(t, middle, calls) {
				if record.Call.Connection != 1 {
					t.Errorf("the connection was closed before %s", record)
					break
				}
			}
		})
	}
}
