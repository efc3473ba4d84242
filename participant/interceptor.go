package participant

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/treatyhq/treaty/internal/incoming"
	"github.com/treatyhq/treaty/internal/wire"
)

// UnaryServerInterceptor returns the interceptor that makes the handlers of a server correct participants:
//
//   - It puts the call's [Command] into the context, for [FromContext]. A call with malformed metadata is answered with
//     INVALID_ARGUMENT and doesn't reach the handler.
//   - It answers commands of callers that aren't believed with UNAUTHENTICATED, see [Believe].
//   - It marks answers with the trailer [AnswerKey], so that an orchestrator can tell them from those of a proxy. A
//     handler must not set that trailer itself.
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
func UnaryServerInterceptor(log *slog.Logger, trust ...Trust) grpc.UnaryServerInterceptor {
	return newGuard(log, trust).unary
}

// StreamServerInterceptor returns the interceptor for a server's streaming methods. Commands are unary, so a stream
// with a command's metadata is answered with UNAUTHENTICATED unless its caller is believed. Otherwise it recovers
// panics and withholds the text of internal errors, as [UnaryServerInterceptor] does.
func StreamServerInterceptor(log *slog.Logger, trust ...Trust) grpc.StreamServerInterceptor {
	return newGuard(log, trust).stream
}

// guard wraps the handlers of a server.
type guard struct {
	log     *slog.Logger
	trust   Trust
	accepts acceptingMethods
	now     func() time.Time
	warned  sync.Map     // callers that aren't believed
	callers atomic.Int32 // how many there are in warned
}

func newGuard(log *slog.Logger, trust []Trust) *guard {
	if log == nil {
		log = slog.Default()
	}
	g := &guard{log: slog.New(LogHandler(log.Handler())), now: time.Now}
	if len(trust) > 0 {
		g.trust = trust[0]
	}
	return g
}

func (g *guard) unary(
	ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (reply any, err error) {
	defer func() {
		if p := recover(); p != nil {
			reply, err = nil, g.panicked(ctx, info.FullMethod, p)
			incoming.Mark(ctx, wire.AnswerAttempt)
		}
	}()
	ctx, err = g.withCommand(ctx, info.FullMethod)
	if err != nil {
		incoming.Mark(ctx, wire.AnswerAttempt)
		return nil, err
	}
	reply, err = handler(ctx, request)
	if wait, ok := IsPending(err); ok {
		if reply, err = pend(ctx, wait); err == nil {
			return reply, nil
		}
	}
	switch {
	case err == nil && g.accepts.can(info.FullMethod):
		incoming.Mark(ctx, wire.AnswerDone)
	case err == nil:
	case IsSettled(err):
		incoming.Mark(ctx, wire.AnswerSettled)
	default:
		incoming.Mark(ctx, wire.AnswerAttempt)
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
	// The metadata of a stream comes with its first frame, and its caller stays the same. So what is checked here holds
	// for all its frames.
	md, _ := metadata.FromIncomingContext(stream.Context())
	if incoming.HasCommandKey(md) || incoming.IsParticipantService(info.FullMethod) {
		if err := g.checkCaller(stream.Context(), info.FullMethod); err != nil {
			// A call of a method that isn't served arrives here, too, and may be a command.
			stream.SetTrailer(metadata.Pairs(wire.AnswerKey, wire.AnswerAttempt))
			return err
		}
	}
	if err := handler(server, stream); err != nil {
		return g.public(stream.Context(), info.FullMethod, err)
	}
	return nil
}

// withCommand puts the command of a call into its context. A caller that isn't believed never reaches the handler,
// since a command must not be executed as an ordinary call either.
func (g *guard) withCommand(ctx context.Context, method string) (context.Context, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if !incoming.HasCommandKey(md) && !incoming.IsParticipantService(method) {
		return ctx, nil
	}
	if err := g.checkCaller(ctx, method); err != nil {
		return ctx, err
	}
	if incoming.IsParticipantService(method) {
		return ctx, nil
	}
	command, _, err := ParseMetadata(md)
	if err != nil {
		return ctx, incoming.InvalidMetadata(err)
	}
	if err := CheckEpoch(command.Epoch, g.now()); err != nil {
		return ctx, err
	}
	return NewContext(ctx, command), nil
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
