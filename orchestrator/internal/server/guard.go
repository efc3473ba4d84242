package server

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

// guard is the one unary interceptor: it turns a panic into an error and writes a line per call to the debug log. It never sees
// into a message.
func (s *Server) guard(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (reply any, err error) {
	if s.logger.Enabled(ctx, slog.LevelDebug) {
		defer func(began time.Time) { s.note(ctx, info.FullMethod, began, err) }(time.Now())
	}
	defer func() {
		if cause := recover(); cause != nil {
			reply, err = nil, s.panicked(ctx, info.FullMethod, cause)
		}
	}()
	return handle(ctx, request)
}

// guardStream is guard for streams.
func (s *Server) guardStream(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
	ctx := stream.Context()
	if s.logger.Enabled(ctx, slog.LevelDebug) {
		defer func(began time.Time) { s.note(ctx, info.FullMethod, began, err) }(time.Now())
	}
	defer func() {
		if cause := recover(); cause != nil {
			err = s.panicked(ctx, info.FullMethod, cause)
		}
	}()
	return handle(server, stream)
}

func (s *Server) note(ctx context.Context, method string, began time.Time, err error) {
	s.logger.DebugContext(ctx, "call", "method", strings.TrimPrefix(method, "/"), "code", status.Code(err).String(), "took", time.Since(began))
}

func (s *Server) panicked(ctx context.Context, method string, cause any) error {
	return s.unforeseen(ctx, strings.TrimPrefix(method, "/"), about{}, fmt.Errorf("panic: %v\n%s", cause, debug.Stack()))
}
