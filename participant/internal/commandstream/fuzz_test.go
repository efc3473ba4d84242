package commandstream

import (
	"context"
	"io"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/incoming"
	"github.com/treatyhq/treaty/internal/testkit"
)

// scripted is a stream that receives messages one after the other.
type scripted struct {
	grpc.ServerStream

	ctx      context.Context
	messages []*treatyv1.StreamCommandsRequest
	answered map[uint64]int
}

// Context implements grpc.ServerStream.
func (s *scripted) Context() context.Context { return s.ctx }

// Recv implements incoming.CommandStream.
func (s *scripted) Recv() (*treatyv1.StreamCommandsRequest, error) {
	if len(s.messages) == 0 {
		return nil, io.EOF
	}
	next := s.messages[0]
	s.messages = s.messages[1:]
	return next, nil
}

// Send implements incoming.CommandStream. It checks what every message must hold.
func (s *scripted) Send(response *treatyv1.StreamCommandsResponse) error {
	if _, err := proto.Marshal(response); err != nil {
		return err
	}
	for _, answer := range response.GetAnswers() {
		s.answered[answer.GetNumber()]++
	}
	return nil
}

// messagesOf splits data into messages, each after its length.
func messagesOf(data []byte) []*treatyv1.StreamCommandsRequest {
	var messages []*treatyv1.StreamCommandsRequest
	for len(data) > 0 {
		part, n := protowire.ConsumeBytes(data)
		if n < 0 {
			break
		}
		data = data[n:]
		message := new(treatyv1.StreamCommandsRequest)
		if proto.Unmarshal(part, message) != nil {
			break // gRPC ends the stream
		}
		messages = append(messages, message)
	}
	return messages
}

// FuzzStream receives messages one after the other. The server doesn't panic, answers each command of a stream that
// ends well once, and serves the next stream.
func FuzzStream(f *testing.F) {
	seed := func(messages ...*treatyv1.StreamCommandsRequest) {
		var data []byte
		for _, message := range messages {
			encoded, err := proto.Marshal(message)
			if err != nil {
				f.Fatal(err)
			}
			data = protowire.AppendBytes(data, encoded)
		}
		f.Add(data)
	}
	good, bad := command(f, "x"), command(f, "y")
	good.Number, bad.Number, bad.CommandId, bad.TimeoutMicros = 1, 2, "?", -5
	greeting := &treatyv1.StreamCommandsRequest{Greeting: testkit.Greeting()}
	commands := &treatyv1.StreamCommandsRequest{
		Commands: []*treatyv1.StreamedCommand{good, bad}, Cancelled: []uint64{0, 1, 2, 1 << 63},
	}
	seed(greeting, commands)
	seed(commands, greeting)
	seed(greeting, commands, commands, greeting)
	seed(greeting, &treatyv1.StreamCommandsRequest{Cancelled: []uint64{1}}, commands)
	params := Params{
		Window: 4, MaxRequestBytes: 1 << 20, MaxReplyBytes: 1 << 20,
		Method: func(name string) *Method {
			if name != method {
				return nil
			}
			return NewMethod(MethodParams{Path: "/" + method, Handle: func(
				_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor,
			) (any, error) {
				request := new(treatyv1.StreamCommandsRequest)
				if err := decode(request); err != nil {
					return nil, err
				}
				metadata.FromIncomingContext(ctx)
				return request, ctx.Err()
			}})
		},
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		server := NewServer(params)
		defer server.Close()
		for range 2 {
			stream := &scripted{ctx: t.Context(), messages: messagesOf(data), answered: make(map[uint64]int)}
			sent := make(map[uint64]int)
			for _, message := range stream.messages {
				for _, c := range message.GetCommands() {
					sent[c.GetNumber()]++
				}
			}
			cancelled := make(map[uint64]bool)
			for _, message := range stream.messages {
				for _, number := range message.GetCancelled() {
					cancelled[number] = true
				}
			}
			err := server.Serve(stream, incoming.Opening{
				Admit: func(context.Context, *treatyv1.OrchestratorGreeting) error { return nil },
			})
			if err != nil {
				continue
			}
			for number, n := range sent {
				if got := stream.answered[number]; got > n || got < n && !cancelled[number] {
					t.Errorf("%d commands with the number %d have %d answers", n, number, got)
				}
			}
		}
	})
}
