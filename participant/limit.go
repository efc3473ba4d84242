package participant

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// checkSize returns the error that gRPC returns for a message that is larger than the limit.
func (s *Server) checkSize(message any) error {
	m, ok := message.(proto.Message)
	if !ok {
		return nil
	}
	if size := proto.Size(m); size > s.options.MaxMessageBytes {
		return status.Errorf(codes.ResourceExhausted, "trying to send message larger than max (%d vs. %d)", size,
			s.options.MaxMessageBytes)
	}
	return nil
}

// limitReply limits the replies of unary calls. It is the outermost interceptor.
func (s *Server) limitReply(
	ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (any, error) {
	reply, err := handler(ctx, request)
	if err == nil {
		err = s.checkSize(reply)
	}
	if err != nil {
		return nil, err
	}
	return reply, nil
}

// limitMessages limits the messages of streams other than that of commands.
func (s *Server) limitMessages(
	server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler,
) error {
	if info.FullMethod == treatyv1.ParticipantService_StreamCommands_FullMethodName {
		return handler(server, stream)
	}
	return handler(server, limitedStream{stream, s})
}

// limitedStream is a stream that sends no large messages.
type limitedStream struct {
	grpc.ServerStream

	server *Server
}

// SendMsg implements grpc.ServerStream.
func (l limitedStream) SendMsg(message any) error {
	if err := l.server.checkSize(message); err != nil {
		return err
	}
	return l.ServerStream.SendMsg(message)
}
