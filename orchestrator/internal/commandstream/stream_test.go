package commandstream_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/orchestrator/internal/commandstream"
)

// participant is a participant that does with a stream what a test says.
type participant struct {
	treatyv1.UnimplementedParticipantServiceServer

	serve func(peer) error
}

// peer is the participant's end of a stream.
type peer = grpc.BidiStreamingServer[treatyv1.StreamCommandsRequest, treatyv1.StreamCommandsResponse]

func (p *participant) StreamCommands(stream peer) error { return p.serve(stream) }

// dial connects to a participant.
func dial(t testing.TB, serve func(peer) error) *grpc.ClientConn {
	t.Helper()
	server := grpc.NewServer()
	treatyv1.RegisterParticipantServiceServer(server, &participant{serve: serve})
	conn, err := grpc.NewClient(testkit.ServeOn(t, server, "127.0.0.1:0"),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

var params = commandstream.Params{
	Greeting:      &treatyv1.OrchestratorGreeting{ProtocolVersion: 1, Scope: "test/0", Epoch: 7},
	MaxReplyBytes: 1 << 20,
}

// open opens a stream to a participant that greets, and then does what a test says.
func open(t testing.TB, window int, then func(peer) error) *commandstream.Stream {
	t.Helper()
	conn := dial(t, func(p peer) error {
		if err := greet(p, window); err != nil {
			return err
		}
		return then(p)
	})
	s, err := commandstream.Open(t.Context(), t.Context(), conn, params)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func greet(p peer, window int) error {
	first, err := p.Recv()
	if err != nil {
		return err
	}
	if g := first.GetGreeting(); g.GetScope() != "test/0" || g.GetEpoch() != 7 || len(first.GetCommands()) > 0 ||
		g.GetMaxMessageBytes() <= 1<<20 {
		return status.Errorf(codes.InvalidArgument, "got %v", first)
	}
	return p.Send(&treatyv1.StreamCommandsResponse{Greeting: &treatyv1.ParticipantGreeting{
		ProtocolVersion: 1, Window: int32(window), MaxMessageBytes: 1 << 20,
	}})
}

// received waits for n commands.
func received(p peer, n int) (commands []*treatyv1.StreamedCommand, err error) {
	for len(commands) < n {
		message, err := p.Recv()
		if err != nil {
			return nil, err
		}
		commands = append(commands, message.GetCommands()...)
	}
	return commands, nil
}

func answer(p peer, answers ...*treatyv1.StreamedAnswer) error {
	return p.Send(&treatyv1.StreamCommandsResponse{Answers: answers})
}

// echo answers each command with its request until the orchestrator closes its side.
func echo(p peer) error {
	for {
		message, err := p.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var answers []*treatyv1.StreamedAnswer
		for _, c := range message.GetCommands() {
			answers = append(answers, &treatyv1.StreamedAnswer{Number: c.GetNumber(), Reply: c.GetRequest()})
		}
		if err := answer(p, answers...); err != nil {
			return err
		}
	}
}

func command(request string) *commandstream.Command {
	return &commandstream.Command{
		Method: "acme.v1.Service/Do", ID: "sagas/s/steps/1",
		Direction: treatyv1.StepDirection_STEP_DIRECTION_ACTION, Attempt: 1, Request: []byte(request),
	}
}

// wantReply checks that a command was answered with its request.
func wantReply(t *testing.T, result commandstream.Result, want string) {
	t.Helper()
	if !result.Sent || result.Err != nil || result.Answer.Status != nil || string(result.Answer.Reply) != want {
		t.Errorf("got %+v, want the reply %q", result, want)
	}
}

// wantCut checks that it is unknown what became of a command.
func wantCut(t *testing.T, result commandstream.Result) {
	t.Helper()
	if !result.Sent || status.Code(result.Err) != codes.Unavailable {
		t.Errorf("got %+v, want UNAVAILABLE for a command that was sent", result)
	}
}

func TestManyCommands(t *testing.T) {
	s := open(t, 1000, echo)
	var wg sync.WaitGroup
	for i := range 1000 {
		wg.Go(func() {
			text := fmt.Sprint("request ", i)
			wantReply(t, s.Do(t.Context(), time.Hour, command(text)), text)
		})
	}
	wg.Wait()
	s.Drain()
	<-s.Ended()
	if err := s.Err(); err != nil {
		t.Errorf("the stream has ended with %v", err)
	}
}

func TestCommandArrivesWhole(t *testing.T) {
	arrived := make(chan *treatyv1.StreamedCommand, 1)
	s := open(t, 10, func(p peer) error {
		commands, err := received(p, 1)
		if err != nil {
			return err
		}
		arrived <- commands[0]
		return answer(p, &treatyv1.StreamedAnswer{
			Number: commands[0].GetNumber(), Failure: &treatyv1.Failure{Code: int32(codes.Aborted), Message: "busy"},
			Trailers: []*treatyv1.Trailer{
				{Key: "a", Value: []byte("1")}, {Key: "a", Value: []byte("2")}, {Key: "b-bin", Value: []byte{0, 255}},
			},
		})
	})
	sent := &commandstream.Command{
		Method: "acme.v1.Service/Do", ID: "sagas/s/steps/1", Attempt: 3,
		Direction: treatyv1.StepDirection_STEP_DIRECTION_COMPENSATION, SagaStart: time.UnixMicro(1234567),
		RequestDigest: strings.Repeat("a", 64), Traceparent: "00-1-2-01", Tracestate: "x=y", Request: []byte("r"),
	}
	result := s.Do(t.Context(), time.Hour, sent)
	got := <-arrived
	if got.GetMethod() != sent.Method || got.GetCommandId() != sent.ID || got.GetAttempt() != 3 ||
		got.GetDirection() != sent.Direction || got.GetSagaStartMicros() != 1234567 ||
		got.GetRequestDigest() != sent.RequestDigest || got.GetTraceparent() != sent.Traceparent ||
		got.GetTracestate() != sent.Tracestate || string(got.GetRequest()) != "r" {
		t.Errorf("arrived: %v", got)
	}
	if left := time.Duration(got.GetTimeoutMicros()) * time.Microsecond; left <= 50*time.Minute || left > time.Hour {
		t.Errorf("the timeout is %v, want an hour", left)
	}
	if st := result.Answer.Status; !result.Sent || st.Code() != codes.Aborted || st.Message() != "busy" {
		t.Errorf("got %+v", result)
	}
	if md := result.Answer.Trailers; fmt.Sprint(md.Get("a")) != "[1 2]" || md.Get("b-bin")[0] != "\x00\xff" {
		t.Errorf("trailers %v", md)
	}
}

// TestBatchesAreBounded checks that commands are split into messages of at most 256 KiB, and that one that is larger
// than the participant takes isn't sent.
func TestBatchesAreBounded(t *testing.T) {
	const n, size = 20, 100 << 10
	largest := make(chan int, 1)
	s := open(t, n, func(p peer) error {
		seen, most := 0, 0
		for seen < n {
			message, err := p.Recv()
			if err != nil {
				return err
			}
			sum := 0
			for _, c := range message.GetCommands() {
				sum += len(c.GetRequest())
				if err := answer(p, &treatyv1.StreamedAnswer{Number: c.GetNumber()}); err != nil {
					return err
				}
			}
			seen, most = seen+len(message.GetCommands()), max(most, sum)
		}
		largest <- most
		return nil
	})
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() { wantReply(t, s.Do(t.Context(), time.Hour, command(strings.Repeat("x", size))), "") })
	}
	if result := s.Do(t.Context(), time.Hour, command(strings.Repeat("x", 1<<20))); result.Sent || result.Err != nil {
		t.Errorf("got %v for a command that is too large, want that it wasn't sent", result.Err)
	}
	wg.Wait()
	if most := <-largest; most > 256<<10 {
		t.Errorf("a message has %d bytes", most)
	}
}

func TestWindow(t *testing.T) {
	full, release := make(chan struct{}), make(chan struct{})
	s := open(t, 2, func(p peer) error {
		commands, err := received(p, 2)
		if err != nil {
			return err
		}
		close(full)
		<-release
		for _, c := range commands {
			if err := answer(p, &treatyv1.StreamedAnswer{Number: c.GetNumber()}); err != nil {
				return err
			}
		}
		return echo(p)
	})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { wantReply(t, s.Do(t.Context(), time.Hour, command("")), "") })
	}
	<-full
	if result := s.Do(t.Context(), time.Hour, command("")); result.Sent || result.Err != nil {
		t.Errorf("got %+v for a command beyond the window, want that it wasn't sent", result)
	}
	close(release)
	wg.Wait()
	wantReply(t, s.Do(t.Context(), time.Hour, command("next")), "next")
}

// TestCancelled checks that the participant is told of a command that isn't waited for any more, that its answer does
// no harm, and that its place can be taken before it.
func TestCancelled(t *testing.T) {
	arrived, told := make(chan struct{}), make(chan uint64, 1)
	s := open(t, 1, func(p peer) error {
		commands, err := received(p, 1)
		if err != nil {
			return err
		}
		close(arrived)
		message, err := p.Recv()
		if err != nil {
			return err
		}
		told <- message.GetCancelled()[0]
		if err := answer(p, &treatyv1.StreamedAnswer{Number: commands[0].GetNumber()}); err != nil {
			return err
		}
		return echo(p)
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	result := s.Do(ctx, time.Hour, command("first"))
	if !result.Sent || result.Silent || status.Code(result.Err) != codes.Canceled {
		t.Errorf("got %+v, want CANCELLED", result)
	}
	if n := <-told; n != 1 {
		t.Errorf("%d was cancelled, want 1", n)
	}
	wantReply(t, s.Do(t.Context(), time.Hour, command("second")), "second")
}

// TestTimeout tells a command that alone isn't answered from a stream on which nothing arrives.
func TestTimeout(t *testing.T) {
	for _, silent := range []bool{false, true} {
		t.Run(fmt.Sprint("silent ", silent), func(t *testing.T) {
			s := open(t, 10, func(p peer) error {
				if _, err := received(p, 1); err != nil {
					return err
				}
				if !silent {
					if err := answer(p, &treatyv1.StreamedAnswer{Number: 99}); err != nil {
						return err
					}
				}
				<-p.Context().Done()
				return nil
			})
			result := s.Do(t.Context(), 200*time.Millisecond, command(""))
			if !result.Sent || status.Code(result.Err) != codes.DeadlineExceeded || result.Silent != silent {
				t.Errorf("got %+v, want DEADLINE_EXCEEDED, silent %t", result, silent)
			}
		})
	}
}

// TestStreamBreaks checks that what was sent is in doubt, however the stream ends.
func TestStreamBreaks(t *testing.T) {
	for name, end := range map[string]error{
		"well": nil, "with an error": status.Error(codes.ResourceExhausted, "too much"),
		"as unimplemented": status.Error(codes.Unimplemented, "no longer"),
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, 10, func(p peer) error {
				_, err := received(p, 3)
				return errors.Join(err, end)
			})
			var wg sync.WaitGroup
			for range 3 {
				wg.Go(func() { wantCut(t, s.Do(t.Context(), time.Hour, command(""))) })
			}
			wg.Wait()
			<-s.Ended()
			if status.Code(s.Err()) != status.Code(end) {
				t.Errorf("the stream has ended with %v, want %v", s.Err(), end)
			}
			if result := s.Do(t.Context(), time.Hour, command("")); result.Sent || result.Err != nil {
				t.Errorf("got %+v from a stream that has ended, want that the command wasn't sent", result)
			}
		})
	}
}

// TestEnding checks that a stream ends without an error for anybody when the participant wants it to.
func TestEnding(t *testing.T) {
	announced := make(chan struct{})
	s := open(t, 10, func(p peer) error {
		commands, err := received(p, 1)
		if err != nil {
			return err
		}
		if err := p.Send(&treatyv1.StreamCommandsResponse{Ending: true}); err != nil {
			return err
		}
		<-announced
		if err := answer(p, &treatyv1.StreamedAnswer{Number: commands[0].GetNumber()}); err != nil {
			return err
		}
		if _, err := p.Recv(); !errors.Is(err, io.EOF) {
			return status.Errorf(codes.Internal, "got %v, want that the orchestrator closes its side", err)
		}
		return nil
	})
	go func() { <-s.Draining(); close(announced) }()
	wantReply(t, s.Do(t.Context(), time.Hour, command("")), "")
	if result := s.Do(t.Context(), time.Hour, command("")); result.Sent || result.Err != nil {
		t.Errorf("got %+v, want that a command isn't sent after the announcement", result)
	}
	<-s.Ended()
	if s.Err() != nil {
		t.Error(s.Err())
	}
}

// TestOpenFails checks that no stream comes of a participant that doesn't serve it, and of one that doesn't greet.
func TestOpenFails(t *testing.T) {
	hang := func(p peer) error { <-p.Context().Done(); return nil }
	for name, test := range map[string]struct {
		serve func(peer) error
		code  codes.Code
	}{
		"unimplemented": {func(peer) error { return status.Error(codes.Unimplemented, "no") }, codes.Unimplemented},
		"ends":          {func(peer) error { return nil }, codes.Unknown},
		"no greeting":   {func(p peer) error { return errors.Join(answer(p), hang(p)) }, codes.Unknown},
		"hangs":         {hang, codes.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			_, err := commandstream.Open(ctx, t.Context(), dial(t, test.serve), params)
			if status.Code(err) != test.code {
				t.Errorf("got %v, want %s", err, test.code)
			}
		})
	}
}

// TestStrangeAnswers checks that a participant that doesn't keep to the protocol harms only itself.
func TestStrangeAnswers(t *testing.T) {
	s := open(t, 10, func(p peer) error {
		for _, strange := range []*treatyv1.StreamCommandsResponse{
			{}, {Greeting: new(treatyv1.ParticipantGreeting)},
			{Answers: []*treatyv1.StreamedAnswer{{}, {Number: 100}, {Number: 100}, {Number: 1 << 60}}},
		} {
			if err := p.Send(strange); err != nil {
				return err
			}
		}
		return echo(p)
	})
	for range 3 {
		wantReply(t, s.Do(t.Context(), time.Hour, command("a")), "a")
	}
}

// TestKilledConnection checks that a connection that breaks leaves what was sent in doubt, and nothing hanging.
func TestKilledConnection(t *testing.T) {
	var conns sync.Map
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	arrived := make(chan struct{}, 100)
	treatyv1.RegisterParticipantServiceServer(server, &participant{serve: func(p peer) error {
		if err := greet(p, 100); err != nil {
			return err
		}
		for {
			message, err := p.Recv()
			if err != nil {
				return err
			}
			for range message.GetCommands() {
				arrived <- struct{}{}
			}
		}
	}})
	go func() { _ = server.Serve(&watched{listener, &conns}) }()
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	s, err := commandstream.Open(t.Context(), t.Context(), conn, params)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() { wantCut(t, s.Do(t.Context(), time.Hour, command(""))) })
	}
	for range 10 {
		<-arrived
	}
	conns.Range(func(c, _ any) bool { return c.(net.Conn).Close() == nil })
	wg.Wait()
	<-s.Ended()
}

// watched is a listener that remembers its connections.
type watched struct {
	net.Listener

	conns *sync.Map
}

func (w *watched) Accept() (net.Conn, error) {
	conn, err := w.Listener.Accept()
	if err == nil {
		w.conns.Store(conn, true)
	}
	return conn, err
}

// BenchmarkDo measures a command with both ends in this process.
func BenchmarkDo(b *testing.B) {
	for _, callers := range []int{1, 64, 256} {
		b.Run(fmt.Sprint(callers, " callers"), func(b *testing.B) {
			s := open(b, 1024, echo)
			b.ReportAllocs()
			var left atomic.Int64
			left.Store(int64(b.N))
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						result := s.Do(b.Context(), time.Hour, command("request"))
						if result.Err != nil || !result.Sent {
							b.Error(result)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}
