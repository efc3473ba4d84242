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
	reply, err = s.handle(ctx, method, request, handle)
	if err != nil && !foreignError(method, err) {
		_ = grpc.SetTrailer(ctx, markOf(err))
		return nil, s.explain(ctx, method, request, err)
	}
	return reply, err
}

// handle handles a unary call, if its caller may make it.
func (s *Server) handle(ctx context.Context, method string, request any, handle grpc.UnaryHandler) (any, error) {
	if incoming.IsParticipantService(method) {
		if err := s.checkParent(ctx, method, nil); err != nil {
			return nil, err
		}
	}
	admitted, end, err := s.admit(ctx, method, request)
	if err != nil {
		return nil, err
	}
	reply, err := handle(admitted, request)
	if revoked := end(); revoked != nil {
		return nil, revoked
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
	received := &requestStream{ServerStream: stream, server: s, method: method, ctx: ctx, end: notRevoked}
	if incoming.IsParticipantService(method) {
		err = s.checkParent(ctx, method, nil)
	}
	if err == nil {
		err = handle(server, received)
	}
	if revoked := received.end(); revoked != nil {
		err = revoked
	}
	if err != nil && !received.failed && !foreignError(method, err) {
		return s.explain(ctx, method, received.request, err)
	}
	return err
}

// requestStream is a stream that keeps the request that was received last, and authorizes it. When receiving failed,
// the error is gRPC's own status, as for a unary call whose request can't be received.
type requestStream struct {
	grpc.ServerStream

	server *Server
	method string
	ctx    context.Context //nolint:containedctx // that of the stream
	end    func() error    // ends the watch over the call

	request any
	failed  bool
	watched bool // the first request was admitted
}

// Context returns the context of the call.
func (r *requestStream) Context() context.Context { return r.ctx }

// RecvMsg receives a request. It returns an error if the caller may not make it.
func (r *requestStream) RecvMsg(request any) (err error) {
	r.request = request
	if r.failed, err = receive(request, r.ServerStream.RecvMsg); err != nil {
		return err
	}
	if r.watched {
		return r.server.authorize(r.ctx, r.method, request)
	}
	r.ctx, r.end, err = r.server.admit(r.ctx, r.method, request)
	r.watched = err == nil
	return err
}

// foreignError returns whether an error is that of one of gRPC's own services: health, reflection and channelz return
// statuses.
func foreignError(method string, err error) bool {
	if !strings.HasPrefix(method, "grpc.") {
		return false
	}
	_, own := errors.AsType[*apiError](err)
	return !own
}

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
