package participant

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// UnaryServerInterceptor returns the interceptor that makes the handlers of a server correct participants:
//
//   - It puts the call's [Command] into the context, for [FromContext]. A call with malformed metadata is answered with
//     INVALID_ARGUMENT and doesn't reach the handler.
//   - It answers [Pending] with OK, an empty reply and the trailer [PendingKey].
//   - It returns an error's status to the caller without the text of errors that wrap it. An error without a status
//     becomes DEADLINE_EXCEEDED or CANCELLED if the call has ended, and otherwise INTERNAL without the error's text.
//   - It recovers panics and answers them with INTERNAL.
//
// Panics and the errors whose text it withholds are logged with the attributes of [LogHandler]. They go to log, or to
// slog.Default if log is nil. Calls that aren't made for a saga get the same treatment.
//
// Make it the first interceptor of the server, so that it also covers the others. A server made by [NewServer] already
// has it.
func UnaryServerInterceptor(log *slog.Logger) grpc.UnaryServerInterceptor {
	return newGuard(log).unary
}

// StreamServerInterceptor returns the interceptor for a server's streaming methods. Commands are unary, so it only
// recovers panics and withholds the text of internal errors, as [UnaryServerInterceptor] does.
func StreamServerInterceptor(log *slog.Logger) grpc.StreamServerInterceptor {
	return newGuard(log).stream
}

// guard wraps the handlers of a server.
type guard struct{ log *slog.Logger }

func newGuard(log *slog.Logger) *guard {
	if log == nil {
		log = slog.Default()
	}
	return &guard{log: slog.New(LogHandler(log.Handler()))}
}

func (g *guard) unary(
	ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (reply any, err error) {
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

func (g *guard) stream(
	server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler,
) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = g.panicked(stream.Context(), info.FullMethod, p)
		}
	}()
	if err := handler(server, stream); err != nil {
		return g.public(stream.Context(), info.FullMethod, err)
	}
	return nil
}

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

// panicked logs a handler's panic and returns the error for the caller.
func (g *guard) panicked(ctx context.Context, method string, p any) error {
	g.log.LogAttrs(ctx, slog.LevelError, "handler panicked", slog.String("method", method),
		slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
	return internal(ctx)
}

// public returns what the caller may know of a handler's error. It logs the rest.
func (g *guard) public(ctx context.Context, method string, err error) error {
	if s, ok := status.FromError(err); ok {
		// FromError adds the text of wrapping errors to the message. The caller gets the innermost status only.
		var wrapped interface{ GRPCStatus() *status.Status }
		if errors.As(err, &wrapped) {
			s = wrapped.GRPCStatus()
		}
		if hidesCause(s.Code(), err) {
			g.failed(ctx, method, err)
		}
		return s.Err()
	}
	// An interrupted database returns its own error, which doesn't wrap the context's.
	switch err := errors.Join(err, ctx.Err()); {
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, "the call's deadline passed")
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, "the caller cancelled the call")
	}
	g.failed(ctx, method, err)
	return internal(ctx)
}

func (g *guard) failed(ctx context.Context, method string, err error) {
	g.log.LogAttrs(ctx, slog.LevelError, "handler failed", slog.String("method", method), slog.Any("error", err))
}

// hidesCause reports whether an error has a cause that only the service's log can show.
func hidesCause(code codes.Code, err error) bool {
	switch code {
	case codes.Internal, codes.Unknown, codes.DataLoss:
		return true
	case codes.Unavailable: // For example from an inbox whose database fails.
		return errors.Unwrap(err) != nil
	default:
		return false
	}
}

func internal(ctx context.Context) error {
	if id := traceID(ctx); id != "" {
		return status.Error(codes.Internal, "internal error; see the service's log, trace "+id)
	}
	return status.Error(codes.Internal, "internal error; see the service's log")
}
