package commandstream

import (
	"context"
	"errors"
	"io"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/internal/wire"
)

// await waits for the end of something.
func await(t testing.TB, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatalf("waited too long: %s", what)
	}
}

// statusOf returns the status and the mark of an answer.
func statusOf(answer *treatyv1.StreamedAnswer) (*status.Status, string) {
	st, trailers := testkit.StatusOf(answer)
	return st, strings.Join(trailers[wire.AnswerKey], " ")
}

func TestGreeting(t *testing.T) {
	s := serve(t, echo, nil)
	commands := s.open(t)
	if got := commands.Greeting; got.GetProtocolVersion() != 1 || got.GetWindow() != 8 ||
		got.GetMaxMessageBytes() != 4<<20 || got.GetContractsDigest() == "" {
		t.Errorf("the greeting is %v", got)
	}
	if s.admitted.Load() != 1 {
		t.Error("the scope wasn't heard")
	}
	if got := text(t, receive(t, commands, send(t, commands, command(t, "x"))[0])); got != "x" {
		t.Errorf("the reply is %q", got)
	}
	if err := commands.Stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	await(t, "the end of the stream", commands.Ended)
	if !errors.Is(commands.Err(), io.EOF) {
		t.Errorf("the stream has ended with %v", commands.Err())
	}
}

// TestRefusedGreeting opens streams that end before a command.
func TestRefusedGreeting(t *testing.T) {
	greeting := func(change func(*treatyv1.OrchestratorGreeting)) *treatyv1.StreamCommandsRequest {
		g := testkit.Greeting()
		change(g)
		return &treatyv1.StreamCommandsRequest{Greeting: g}
	}
	ahead := uint64(time.Now().Add(48*time.Hour).UnixMilli()) << 20
	for _, test := range []struct {
		name  string
		first *treatyv1.StreamCommandsRequest
		admit error
		code  codes.Code
		heard int32
	}{
		{"no scope", greeting(func(g *treatyv1.OrchestratorGreeting) { g.Scope = "" }), nil, codes.InvalidArgument, 0},
		{"bad scope", greeting(func(g *treatyv1.OrchestratorGreeting) { g.Scope = "x" }), nil, codes.InvalidArgument,
			0},
		{"no epoch", greeting(func(g *treatyv1.OrchestratorGreeting) { g.Epoch = 0 }), nil, codes.InvalidArgument, 0},
		{"large epoch", greeting(func(g *treatyv1.OrchestratorGreeting) { g.Epoch = 1 << 63 }), nil,
			codes.InvalidArgument, 0},
		{"epoch ahead", greeting(func(g *treatyv1.OrchestratorGreeting) { g.Epoch = ahead }), nil,
			codes.Unauthenticated, 0},
		{"stale epoch", greeting(func(*treatyv1.OrchestratorGreeting) {}), status.Error(codes.Aborted, "stale"),
			codes.Aborted, 1},
		{"small limit", greeting(func(g *treatyv1.OrchestratorGreeting) { g.MaxMessageBytes = 10 }), nil,
			codes.InvalidArgument, 0},
		{"a command", &treatyv1.StreamCommandsRequest{Commands: []*treatyv1.StreamedCommand{command(t, "x")}}, nil,
			codes.InvalidArgument, 0},
		{"nothing", &treatyv1.StreamCommandsRequest{}, nil, codes.InvalidArgument, 0},
		{"a greeting with a command", &treatyv1.StreamCommandsRequest{
			Greeting: testkit.Greeting(), Commands: []*treatyv1.StreamedCommand{command(t, "x")},
		}, nil, codes.InvalidArgument, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			var ran atomic.Bool
			s := serve(t, func(context.Context, string) (string, error) {
				ran.Store(true)
				return "", nil
			}, func(s *served) { s.admit = test.admit })
			stream, err := treatyv1.NewParticipantServiceClient(testkit.Dial(t, s.address)).StreamCommands(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			// A stream that was refused already is io.EOF here. Recv tells why.
			if err := stream.Send(test.first); err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			_, err = stream.Recv()
			if status.Code(err) != test.code {
				t.Errorf("the stream has ended with %v, want %v", err, test.code)
			}
			if mark := strings.Join(stream.Trailer()[wire.AnswerKey], " "); mark != wire.AnswerAttempt {
				t.Errorf("the mark is %q", mark)
			}
			if ran.Load() || s.admitted.Load() != test.heard {
				t.Errorf("executed: %t, heard %d times, want %d", ran.Load(), s.admitted.Load(), test.heard)
			}
		})
	}
}

// TestMalformedCommand sends commands that can't be read between two good ones.
func TestMalformedCommand(t *testing.T) {
	s := serve(t, echo, nil)
	commands := s.open(t)
	for _, test := range []struct {
		name   string
		change func(*treatyv1.StreamedCommand)
		code   codes.Code
		want   string
	}{
		{"command id", func(c *treatyv1.StreamedCommand) { c.CommandId = "17" }, codes.InvalidArgument,
			wire.CommandIDKey},
		{"no command id", func(c *treatyv1.StreamedCommand) { c.CommandId = "" }, codes.InvalidArgument,
			wire.CommandIDKey},
		{"long command id", func(c *treatyv1.StreamedCommand) { c.CommandId += strings.Repeat("1", 600) },
			codes.InvalidArgument, wire.CommandIDKey},
		{"direction", func(c *treatyv1.StreamedCommand) { c.Direction = 0 }, codes.InvalidArgument, wire.DirectionKey},
		{"another direction", func(c *treatyv1.StreamedCommand) { c.Direction = 9 }, codes.InvalidArgument,
			wire.DirectionKey},
		{"attempt", func(c *treatyv1.StreamedCommand) { c.Attempt = 0 }, codes.InvalidArgument, wire.AttemptKey},
		{"start", func(c *treatyv1.StreamedCommand) { c.SagaStartMicros = -1 }, codes.InvalidArgument, wire.StartKey},
		{"digest", func(c *treatyv1.StreamedCommand) { c.RequestDigest = "x" }, codes.InvalidArgument,
			wire.RequestDigestKey},
		{"deadline", func(c *treatyv1.StreamedCommand) { c.TimeoutMicros = -1 }, codes.InvalidArgument,
			"timeout_micros"},
		{"trace", func(c *treatyv1.StreamedCommand) { c.Tracestate = strings.Repeat("x", 9000) },
			codes.InvalidArgument, "trace context"},
		{"no method", func(c *treatyv1.StreamedCommand) { c.Method = "" }, codes.InvalidArgument, "no method"},
		{"unknown method", func(c *treatyv1.StreamedCommand) { c.Method = "acme.X/Do" }, codes.Unimplemented,
			"doesn't serve the method /acme.X/Do"},
	} {
		t.Run(test.name, func(t *testing.T) {
			bad := command(t, "bad")
			test.change(bad)
			answers := send(t, commands, command(t, "before"), bad, command(t, "after"))
			for i, want := range map[int]string{0: "before", 2: "after"} {
				if got := text(t, receive(t, commands, answers[i])); got != want {
					t.Errorf("the reply is %q, want %q", got, want)
				}
			}
			st, mark := statusOf(receive(t, commands, answers[1]))
			if st.Code() != test.code || !strings.Contains(st.Message(), test.want) || mark != wire.AnswerAttempt {
				t.Errorf("got %v with the mark %q, want %v with %q in it", st, mark, test.code, test.want)
			}
		})
	}
}

// TestNumbers sends commands without a number, and with one that is taken.
func TestNumbers(t *testing.T) {
	leave := make(chan struct{})
	s := serve(t, func(_ context.Context, request string) (string, error) {
		<-leave
		return request, nil
	}, nil)
	stream, err := treatyv1.NewParticipantServiceClient(testkit.Dial(t, s.address)).StreamCommands(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sendTo := func(message *treatyv1.StreamCommandsRequest) {
		t.Helper()
		if err := stream.Send(message); err != nil {
			t.Fatal(err)
		}
	}
	next := func() *treatyv1.StreamedAnswer {
		t.Helper()
		response, err := stream.Recv()
		if err != nil || len(response.GetAnswers()) > 1 {
			t.Fatal(response, err)
		}
		if len(response.GetAnswers()) == 0 {
			return nil
		}
		return response.GetAnswers()[0]
	}
	sendTo(&treatyv1.StreamCommandsRequest{Greeting: testkit.Greeting()})
	next()
	without, first, second := command(t, ""), command(t, "first"), command(t, "second")
	first.Number, second.Number = 5, 5
	sendTo(&treatyv1.StreamCommandsRequest{Commands: []*treatyv1.StreamedCommand{without}})
	answer := next()
	if st, mark := statusOf(answer); answer.GetNumber() != 0 || st.Code() != codes.InvalidArgument ||
		mark != wire.AnswerAttempt {
		t.Errorf("without a number: got %v", answer)
	}
	sendTo(&treatyv1.StreamCommandsRequest{Commands: []*treatyv1.StreamedCommand{first, second}})
	// The answer may be taken for that of the first one, which is executed: it must leave a doubt.
	answer = next()
	if st, mark := statusOf(answer); answer.GetNumber() != 5 || st.Code() != codes.Internal || mark != "" {
		t.Errorf("a taken number: got %v", answer)
	}
	close(leave)
	if answer = next(); answer.GetNumber() != 5 || text(t, answer) != "first" {
		t.Errorf("got %v", answer)
	}
	// Once it is answered, it is free: the participant doesn't remember numbers.
	sendTo(&treatyv1.StreamCommandsRequest{Commands: []*treatyv1.StreamedCommand{second}})
	if answer = next(); text(t, answer) != "second" {
		t.Errorf("got %v", answer)
	}
}

func TestWindow(t *testing.T) {
	s := serve(t, func(ctx context.Context, request string) (string, error) {
		if request == "wait" {
			<-ctx.Done()
		}
		return request, nil
	}, nil)
	batch := func(n int, text string) (commands []*treatyv1.StreamedCommand) {
		for range n {
			commands = append(commands, command(t, text))
		}
		return commands
	}
	t.Run("answered commands leave room", func(t *testing.T) {
		commands := s.open(t)
		for range 50 {
			for _, answer := range send(t, commands, batch(8, "x")...) {
				text(t, receive(t, commands, answer))
			}
		}
	})
	t.Run("a window is enough for commands that wait", func(t *testing.T) {
		commands := s.open(t)
		send(t, commands, batch(7, "wait")...)
		for range 10 {
			text(t, receive(t, commands, send(t, commands, command(t, "x"))[0]))
		}
	})
	t.Run("one more ends the stream", func(t *testing.T) {
		commands := s.open(t)
		send(t, commands, batch(8, "wait")...)
		send(t, commands, command(t, "x"))
		await(t, "the end of the stream", commands.Ended)
		if status.Code(commands.Err()) != codes.ResourceExhausted {
			t.Errorf("the stream has ended with %v", commands.Err())
		}
	})
	t.Run("a second greeting ends the stream", func(t *testing.T) {
		commands := s.open(t)
		if err := commands.SendMessage(&treatyv1.StreamCommandsRequest{Greeting: testkit.Greeting()}); err != nil {
			t.Fatal(err)
		}
		await(t, "the end of the stream", commands.Ended)
		if status.Code(commands.Err()) != codes.InvalidArgument {
			t.Errorf("the stream has ended with %v", commands.Err())
		}
	})
}

// TestCancelled cancels commands whose handlers go on. Each leaves its place of the window at once.
func TestCancelled(t *testing.T) {
	leave := make(chan struct{})
	ended := make(chan error, 100)
	s := serve(t, func(ctx context.Context, request string) (string, error) {
		if request == "wait" {
			<-ctx.Done()
			ended <- ctx.Err()
			<-leave
		}
		return request, nil
	}, nil)
	commands := s.open(t)
	var first []<-chan *treatyv1.StreamedAnswer
	for i := range 2 {
		var batch []*treatyv1.StreamedCommand
		for range 8 {
			batch = append(batch, command(t, "wait"))
		}
		first = append(first, send(t, commands, batch...)...)
		message := &treatyv1.StreamCommandsRequest{Cancelled: []uint64{99}}
		for _, c := range batch {
			message.Cancelled = append(message.Cancelled, c.GetNumber(), c.GetNumber())
		}
		if i == 0 {
			if err := commands.SendMessage(message); err != nil {
				t.Fatal(err)
			}
		} else {
			// Cancellations count before the commands that come with them.
			message.Commands = []*treatyv1.StreamedCommand{command(t, "x")}
			message.Commands[0].Number = 1000
			if err := commands.SendMessage(message); err != nil {
				t.Fatal(err)
			}
		}
		for range batch {
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("the context has ended with %v", err)
			}
		}
	}
	// 16 handlers don't end. More of them aren't begun, so that they can't use up the memory.
	st, mark := statusOf(receive(t, commands, send(t, commands, command(t, "x"))[0]))
	if st.Code() != codes.ResourceExhausted || mark != wire.AnswerAttempt {
		t.Errorf("got %v with the mark %q", st, mark)
	}
	close(leave)
	for _, answer := range first {
		text(t, receive(t, commands, answer)) // An answer does no harm.
	}
	text(t, receive(t, commands, send(t, commands, command(t, "x"))[0]))
}

func TestDeadline(t *testing.T) {
	s := serve(t, func(ctx context.Context, request string) (string, error) {
		deadline, ok := ctx.Deadline()
		if request == "none" {
			if ok {
				t.Errorf("the deadline is %v, want none", deadline)
			}
			return "", ctx.Err()
		}
		if left := time.Until(deadline); !ok || left > time.Minute {
			t.Errorf("the deadline is in %v", left)
		}
		if request == "wait" {
			<-ctx.Done()
		}
		child, cancel := context.WithTimeout(ctx, time.Hour)
		defer cancel()
		if child.Err() != nil != (ctx.Err() != nil) {
			t.Errorf("the context: %v, its child: %v", ctx.Err(), child.Err())
		}
		return "", ctx.Err()
	}, nil)
	commands := s.open(t)
	for _, test := range []struct {
		text   string
		micros int64
		code   codes.Code
	}{
		{"none", 0, codes.OK},
		{"in time", 60e6, codes.OK},
		{"wait", 1000, codes.DeadlineExceeded},
	} {
		c := command(t, test.text)
		c.TimeoutMicros = test.micros
		if st, _ := statusOf(receive(t, commands, send(t, commands, c)[0])); st.Code() != test.code {
			t.Errorf("%s: got %v, want %v", test.text, st, test.code)
		}
	}
	// Longer than a time.Duration.
	c := command(t, "none")
	c.TimeoutMicros = 1<<63 - 1
	far := serve(t, echo, nil).open(t)
	if got := text(t, receive(t, far, send(t, far, c)[0])); got != "none" {
		t.Errorf("the reply is %q", got)
	}
}

// TestContextErr asks for the end of a context that nobody waits for.
func TestContextErr(t *testing.T) {
	for _, wait := range []bool{false, true} {
		session, end := context.WithCancel(t.Context())
		defer end()
		x := &streamless{ctx: session}
		past := x.call(time.Now().Add(-time.Second))
		later := x.call(time.Now().Add(time.Hour))
		cancelled := x.call(time.Time{})
		if wait {
			_, _, _ = past.Done(), later.Done(), cancelled.Done()
		}
		cancelled.cancel()
		if err := past.Err(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after the deadline: %v", err)
		}
		if err := cancelled.Err(); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		if err := later.Err(); err != nil {
			t.Errorf("before the deadline: %v", err)
		}
		if cause := context.Cause(past); !errors.Is(cause, context.DeadlineExceeded) {
			t.Errorf("the cause is %v", cause)
		}
		end()
		if err := later.Err(); !errors.Is(err, context.Canceled) {
			t.Errorf("after the end of the stream: %v", err)
		}
		for _, c := range []*call{past, later, cancelled} {
			await(t, "a context that has an error is done", c.Done())
		}
	}
}

// streamless makes calls without a stream.
type streamless struct{ ctx context.Context }

func (s *streamless) call(deadline time.Time) *call {
	return &call{session: &session{ctx: s.ctx}, deadline: deadline, streamed: &treatyv1.StreamedCommand{}}
}

// TestStreamBreaks cuts a stream off while a command is executed.
func TestStreamBreaks(t *testing.T) {
	entered, ended := make(chan struct{}), make(chan error, 1)
	s := serve(t, func(ctx context.Context, _ string) (string, error) {
		close(entered)
		<-ctx.Done()
		ended <- ctx.Err()
		return "", nil
	}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	commands, err := testkit.OpenCommands(ctx, testkit.Dial(t, s.address), testkit.Greeting())
	if err != nil {
		t.Fatal(err)
	}
	send(t, commands, command(t, ""))
	<-entered
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the context has ended with %v", err)
	}
	<-commands.Ended
}

func TestEnding(t *testing.T) {
	for _, test := range []struct {
		name string
		age  time.Duration // 0: the server stops
	}{{"the server stops", 0}, {"the stream is old", time.Millisecond}} {
		t.Run(test.name, func(t *testing.T) {
			entered, leave := make(chan struct{}), make(chan struct{})
			s := serve(t, func(_ context.Context, request string) (string, error) {
				if request == "wait" {
					close(entered)
					<-leave
				}
				return request, nil
			}, func(s *served) { s.age, s.linger = test.age, time.Minute })
			commands := s.open(t)
			waiting := send(t, commands, command(t, "wait"))[0]
			<-entered
			if test.age == 0 {
				s.Stop()
			}
			await(t, "the ending", commands.Ending)
			// What is on its way is executed.
			if got := text(t, receive(t, commands, send(t, commands, command(t, "late"))[0])); got != "late" {
				t.Errorf("the reply is %q", got)
			}
			if err := commands.Stream.CloseSend(); err != nil {
				t.Fatal(err)
			}
			close(leave)
			if got := text(t, receive(t, commands, waiting)); got != "wait" {
				t.Errorf("the reply is %q", got)
			}
			await(t, "the end of the stream", commands.Ended)
			if !errors.Is(commands.Err(), io.EOF) {
				t.Errorf("the stream has ended with %v", commands.Err())
			}
			if test.age == 0 {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				_, err := testkit.OpenCommands(ctx, testkit.Dial(t, s.address), testkit.Greeting())
				if err != nil && status.Code(err) != codes.Unavailable {
					t.Errorf("a stream after the stop: %v", err)
				}
			}
		})
	}
}

// TestOrchestratorStays ends a stream whose orchestrator doesn't close its side.
func TestOrchestratorStays(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	s := serve(t, func(_ context.Context, request string) (string, error) {
		close(entered)
		<-leave
		return request, nil
	}, func(s *served) { s.linger = time.Millisecond })
	commands := s.open(t)
	answer := send(t, commands, command(t, "x"))[0]
	<-entered
	s.Stop()
	await(t, "the ending", commands.Ending)
	select {
	case <-commands.Ended:
		t.Fatal("the stream has ended before everything was answered")
	case <-time.After(50 * time.Millisecond):
	}
	close(leave)
	text(t, receive(t, commands, answer))
	await(t, "the end of the stream", commands.Ended)
	if !errors.Is(commands.Err(), io.EOF) {
		t.Errorf("the stream has ended with %v", commands.Err())
	}
}

// TestBatches looks at the sizes of messages.
func TestBatches(t *testing.T) {
	var entered atomic.Int32
	all := make(chan struct{})
	s := serve(t, func(_ context.Context, request string) (string, error) {
		if entered.Add(1) == 8 {
			close(all)
		}
		<-all
		return strings.Repeat(request, 100<<10), nil
	}, nil)
	stream, err := treatyv1.NewParticipantServiceClient(testkit.Dial(t, s.address)).StreamCommands(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	message := &treatyv1.StreamCommandsRequest{Greeting: testkit.Greeting()}
	if err := stream.Send(message); err != nil {
		t.Fatal(err)
	}
	message.Greeting = nil
	for i := range uint64(8) {
		c := command(t, "x")
		c.Number = i + 1
		message.Commands = append(message.Commands, c)
	}
	if err := stream.Send(message); err != nil {
		t.Fatal(err)
	}
	for answers := 0; answers < 8; {
		response, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		answers += len(response.GetAnswers())
		if size := proto.Size(response); len(response.GetAnswers()) > 1 && size > 256<<10 {
			t.Errorf("a message with %d answers has %d bytes", len(response.GetAnswers()), size)
		}
	}
}

// TestLargeAnswers compares what becomes of answers that don't fit.
func TestLargeAnswers(t *testing.T) {
	s := serve(t, func(ctx context.Context, request string) (string, error) {
		switch request {
		case "message":
			return "", status.Error(codes.NotFound, strings.Repeat("m", 1<<20))
		case "trailer":
			return "", errors.Join(grpc.SetTrailer(ctx, metadata.Pairs("x", strings.Repeat("t", 1<<20))))
		case "marked":
			_ = grpc.SetTrailer(ctx, metadata.Pairs("x", "y"))
		}
		return strings.Repeat("x", 100<<10), nil
	}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	greeting := testkit.Greeting()
	greeting.MaxMessageBytes = 64 << 10
	commands, err := testkit.OpenCommands(ctx, testkit.Dial(t, s.address), greeting)
	if err != nil {
		t.Fatal(err)
	}
	for request, trailers := range map[string]int{"reply": 0, "message": 0, "trailer": 0, "marked": 1} {
		answer := receive(t, commands, send(t, commands, command(t, request))[0])
		st, _ := statusOf(answer)
		if st.Code() != codes.ResourceExhausted || len(answer.GetTrailers()) != trailers ||
			!strings.HasPrefix(st.Message(), "trying to send message larger than max (") {
			t.Errorf("%s: got %v", request, answer)
		}
	}
}

// TestSlowReader doesn't read the answers: the window bounds what the participant holds for it.
func TestSlowReader(t *testing.T) {
	var ran atomic.Int32
	s := serve(t, func(context.Context, string) (string, error) {
		ran.Add(1)
		return strings.Repeat("x", 1<<20), nil
	}, nil)
	stream, err := treatyv1.NewParticipantServiceClient(testkit.Dial(t, s.address)).StreamCommands(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&treatyv1.StreamCommandsRequest{Greeting: testkit.Greeting()}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(1000) {
		c := command(t, "x")
		c.Number = i + 1
		if stream.Send(&treatyv1.StreamCommandsRequest{Commands: []*treatyv1.StreamedCommand{c}}) != nil {
			break
		}
	}
	for err == nil {
		_, err = stream.Recv()
	}
	// Those in the window, and the ones that gRPC had taken to send.
	if n := ran.Load(); status.Code(err) != codes.ResourceExhausted || n > 16 {
		t.Errorf("%d commands were executed, and the stream has ended with %v", n, err)
	}
}

// TestInvalidText answers with texts that aren't UTF-8, which protobuf doesn't allow.
func TestInvalidText(t *testing.T) {
	s := serve(t, func(ctx context.Context, _ string) (string, error) {
		_ = grpc.SetTrailer(ctx, metadata.MD{"x": {"\xff"}, "grpc-status": {"0"}, "\xff": {"y"}})
		return "", status.Error(codes.NotFound, "a\xff\xfeb")
	}, nil)
	commands := s.open(t)
	st, trailers := testkit.StatusOf(receive(t, commands, send(t, commands, command(t, ""))[0]))
	if st.Message() != "a\ufffd\ufffdb" || trailers["x"][0] != "\xff" || len(trailers["grpc-status"]) > 0 {
		t.Errorf("got %v with %v", st, trailers)
	}
}

// TestHandlerEndsGoroutine answers for a handler that never returns.
func TestHandlerEndsGoroutine(t *testing.T) {
	s := serve(t, func(_ context.Context, request string) (string, error) {
		if request == "exit" {
			runtime.Goexit()
		}
		return request, nil
	}, nil)
	commands := s.open(t)
	for range 20 {
		if st, mark := statusOf(receive(t, commands, send(t, commands, command(t, "exit"))[0])); mark != "" ||
			st.Code() != codes.Internal {
			t.Fatalf("got %v with the mark %q", st, mark)
		}
		text(t, receive(t, commands, send(t, commands, command(t, "x"))[0]))
	}
}
