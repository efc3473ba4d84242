package participant

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// guard stands between gRPC and the handlers: it puts the command into the context, and it lets neither a panic nor an
// internal error's text reach the caller.
type guard struct {
	log *slog.Logger

	// stopping ends when the server is told to stop.
	stopping context.Context
}

func (g *guard) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (reply any, err error) {
	ctx, err = withCommand(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		if p := recover(); p != nil {
			reply, err = nil, g.panicked(ctx, info.FullMethod, p)
		}
	}()
	reply, err = handler(ctx, request)
	if wait, ok := IsPending(err); ok {
		return pend(ctx, wait)
	}
	if err != nil {
		return nil, g.public(ctx, info.FullMethod, err)
	}
	return reply, nil
}

func (g *guard) stream(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = g.panicked(stream.Context(), info.FullMethod, p)
		}
	}()
	// Who watches the health would hold up the stop otherwise.
	if strings.HasPrefix(info.FullMethod, "/grpc.health.v1.") {
		ctx, cancel := context.WithCancel(stream.Context())
		defer cancel()
		defer context.AfterFunc(g.stopping, cancel)()
		stream = &endingStream{ServerStream: stream, ctx: ctx}
	}
	if err := handler(server, stream); err != nil {
		return g.public(stream.Context(), info.FullMethod, err)
	}
	return nil
}

// endingStream is a stream with another context.
type endingStream struct {
	grpc.ServerStream

	ctx context.Context
}

// Context returns the context that ends the stream.
func (s *endingStream) Context() context.Context { return s.ctx }

func withCommand(ctx context.Context) (context.Context, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	command, ok, err := ParseMetadata(md)
	switch {
	case err != nil:
		return ctx, status.Error(codes.InvalidArgument, err.Error())
	case ok:
		return NewContext(ctx, command), nil
	default:
		return ctx, nil
	}
}

// panicked logs what a handler panicked with and returns what the caller may know of it.
func (g *guard) panicked(ctx context.Context, method string, p any) error {
	g.log.LogAttrs(ctx, slog.LevelError, "handler panicked", slog.String("method", method), slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
	return internal(ctx)
}

// public turns a handler's error into what the caller may know of it: a status as it is, anything else without its text.
func (g *guard) public(ctx context.Context, method string, err error) error {
	// Only a status that was meant as one is passed on; a wrapped one would carry the wrapping's text.
	if s, ok := status.FromError(err); ok {
		var wrapped interface{ GRPCStatus() *status.Status }
		if errors.As(err, &wrapped) {
			s = wrapped.GRPCStatus()
		}
		if hidesCause(s.Code(), err) {
			g.log.LogAttrs(ctx, slog.LevelError, "handler failed", slog.String("method", method), slog.Any("error", err))
		}
		return s.Err()
	}
	// A database that is interrupted says so in words of its own.
	switch err := errors.Join(err, ctx.Err()); {
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, "the call's deadline passed")
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, "the caller cancelled the call")
	}
	g.log.LogAttrs(ctx, slog.LevelError, "handler failed", slog.String("method", method), slog.Any("error", err))
	return internal(ctx)
}

// hidesCause returns whether the service's log is the only place that has an error's cause.
func hidesCause(code codes.Code, err error) bool {
	switch code {
	case codes.Internal, codes.Unknown, codes.DataLoss:
		return true
	case codes.Unavailable: // as of an inbox whose database fails
		return errors.Unwrap(err) != nil
	default:
		return false
	}
}

func internal(ctx context.Context) error {
	if id := traceID(ctx); id != "" {
		return status.Error(codes.Internal, "internal error; the service's log has it under trace "+id)
	}
	return status.Error(codes.Internal, "internal error; see the service's log")
}
