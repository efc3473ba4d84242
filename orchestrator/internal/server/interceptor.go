package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/treatyhq/treaty/internal/growstack"
	"github.com/treatyhq/treaty/internal/incoming"
	"github.com/treatyhq/treaty/internal/wire"
)

// interceptUnary is the interceptor of all unary calls. It turns the errors of handlers into statuses, and panics into
// errors, and writes a debug log record per call. It never logs a message.
func (s *Server) interceptUnary(
	ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler,
) (reply any, err error) {
	growstack.Grow()
	method := strings.TrimPrefix(info.FullMethod, "/")
	defer s.logCall(ctx, method, &err)()
	defer func() {
		if cause := recover(); cause != nil {
			reply, err = nil, s.panicked(ctx, method, cause)
			_ = grpc.SetTrailer(ctx, markOf(nil))
		}
	}()
	if incoming.IsParticipantService(method) {
		err = s.checkParent(ctx)
	}
	if err == nil {
		reply, err = handle(ctx, request)
	}
	if err != nil && !foreign(method) {
		_ = grpc.SetTrailer(ctx, markOf(err))
		return nil, s.explain(ctx, method, request, err)
	}
	return reply, err
}

// markOf returns the trailer that says what an error covers. The end of a saga is stored, so it holds for every attempt
// to start the saga. Any other error says something about one call.
func markOf(err error) metadata.MD {
	if _, ended := errors.AsType[*sagaEndedError](err); ended {
		return metadata.Pairs(wire.AnswerKey, wire.AnswerSettled)
	}
	return metadata.Pairs(wire.AnswerKey, wire.AnswerAttempt)
}

// interceptStream is interceptUnary for streams.
func (s *Server) interceptStream(
	server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler,
) (err error) {
	ctx, method := stream.Context(), strings.TrimPrefix(info.FullMethod, "/")
	defer s.logCall(ctx, method, &err)()
	defer func() {
		if cause := recover(); cause != nil {
			err = s.panicked(ctx, method, cause)
		}
	}()
	received := &requestStream{ServerStream: stream}
	if incoming.IsParticipantService(method) {
		err = s.checkParent(ctx)
	}
	if err == nil {
		err = handle(server, received)
	}
	if err != nil && !received.failed && !foreign(method) {
		return s.explain(ctx, method, received.request, err)
	}
	return err
}

// requestStream is a stream that keeps the request that was received last. When receiving failed, the error is gRPC's
// own status, as for a unary call whose request can't be received.
type requestStream struct {
	grpc.ServerStream

	request any
	failed  bool
}

// RecvMsg receives a request.
func (r *requestStream) RecvMsg(request any) (err error) {
	r.request = request
	r.failed, err = receive(request, r.ServerStream.RecvMsg)
	return err
}

// foreign returns whether a method is gRPC's own: health, reflection and channelz return statuses.
func foreign(method string) bool { return strings.HasPrefix(method, "grpc.") }

// logCall returns a function that logs the call at its end.
func (s *Server) logCall(ctx context.Context, method string, err *error) func() {
	if !s.logger.Enabled(ctx, slog.LevelDebug) {
		return func() {}
	}
	began := time.Now()
	return func() {
		s.logger.DebugContext(
			ctx, "call", "method", method, "code", status.Code(*err).String(), "took", time.Since(began),
		)
	}
}

func (s *Server) panicked(ctx context.Context, method string, cause any) error {
	return s.unforeseen(ctx, method, subject{}, fmt.Errorf("panic: %v\n%s", cause, debug.Stack()))
}
