package participant

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/treatyhq/treaty/internal/incoming"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/participant/internal/commandstream"
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
//   - It recovers panics and answers them with INTERNAL, and also a handler that returns neither a reply nor an error.
//   - It answers a command whose reply is larger than 4 MiB, or than the MaxMessageBytes of a server made by
//     [NewServer], with INTERNAL, since the orchestrator couldn't receive it. A query, which changes nothing, is
//     refused with OUT_OF_RANGE. Package inbox does the same before the effect is committed.
//   - It leaves out the details of an error that is larger than [MaxErrorBytes].
//
// Panics, the errors whose text it withholds, and what is too large are logged with the attributes of [LogHandler].
// They go to log, or to slog.Default if log is nil. Calls that aren't made for a saga get the same treatment.
//
// Make it the first interceptor of the server, so that it also covers the others. A server made by [NewServer] already
// has it.
func UnaryServerInterceptor(log *slog.Logger, trust ...Trust) grpc.UnaryServerInterceptor {
	return newGuard(log, trust, DefaultMaxMessageBytes).unary
}

// StreamServerInterceptor returns the interceptor for a server's streaming methods. Commands are unary, so a stream
// with a command's metadata is answered with UNAUTHENTICATED unless its caller is believed. Otherwise it recovers
// panics and withholds the text of internal errors, as [UnaryServerInterceptor] does.
func StreamServerInterceptor(log *slog.Logger, trust ...Trust) grpc.StreamServerInterceptor {
	return newGuard(log, trust, DefaultMaxMessageBytes).stream
}

// guard wraps the handlers of a server.
type guard struct {
	log       *slog.Logger
	trust     Trust
	maxReply  int // of a command, in bytes
	contracts contracts
	now       func() time.Time
	warned    sync.Map     // callers that aren't believed
	callers   atomic.Int32 // how many there are in warned
}

func newGuard(log *slog.Logger, trust []Trust, maxReply int) *guard {
	if log == nil {
		log = slog.Default()
	}
	g := &guard{log: slog.New(LogHandler(log.Handler())), maxReply: min(maxReply, DefaultMaxMessageBytes),
		now: time.Now}
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
	ctx = g.leaveRoom(ctx, info.FullMethod, request)
	reply, err = handler(ctx, request)
	if wait, ok := IsPending(err); ok {
		if reply, err = pend(ctx, wait); err == nil {
			return reply, nil
		}
	}
	if err == nil {
		err = g.checkReply(ctx, info.FullMethod, reply)
	}
	switch {
	case err == nil && g.contracts.of(info.FullMethod).GetCompleteWithin() != nil:
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
	if command, streamed := commandstream.CommandFromContext(ctx); streamed {
		// The caller was checked when the stream was opened, and the epoch when the command was read.
		return NewContext(g.withMaxReply(ctx), commandOf(command)), nil
	}
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
	return NewContext(g.withMaxReply(ctx), command), nil
}

// withMaxReply returns the context for a handler whose server sends smaller replies than others.
func (g *guard) withMaxReply(ctx context.Context) context.Context {
	if g.maxReply == DefaultMaxMessageBytes {
		return ctx
	}
	return incoming.WithMaxReplyBytes(ctx, g.maxReply)
}

// undoRoom is what every action may reply with, whatever its request. It includes what the request of a compensation
// has around the action's request and reply.
const undoRoom = 64 << 10

// leaveRoom returns the context for the handler of a call. If the call is an action with a large request, its reply is
// limited: an orchestrator can only compensate the action if both fit into one request of 4 MiB.
func (g *guard) leaveRoom(ctx context.Context, method string, request any) context.Context {
	command, isCommand := FromContext(ctx)
	message, ok := request.(proto.Message)
	if !isCommand || !ok || command.Direction != Action || g.contracts.of(method).GetCompensatedBy() == "" {
		return ctx
	}
	size := proto.Size(message)
	if size <= undoRoom {
		return ctx
	}
	const around = 32
	return incoming.WithMaxReplyBytes(ctx, min(g.maxReply, max(DefaultMaxMessageBytes-size-around, 1)))
}

// checkReply returns the error for a reply that is missing or that the orchestrator couldn't receive.
func (g *guard) checkReply(ctx context.Context, method string, reply any) error {
	message, ok := reply.(proto.Message)
	if reply == nil || ok && !message.ProtoReflect().IsValid() {
		return status.Error(codes.Internal, "the handler of "+strings.TrimPrefix(method, "/")+
			" has returned neither a reply nor an error: to reply with nothing, return an empty message")
	}
	if _, isCommand := FromContext(ctx); !isCommand || !ok {
		return nil
	}
	size := proto.Size(message)
	if size <= g.maxReply {
		return nil
	}
	text := fmt.Sprintf("the reply has %d bytes, and at most %d are allowed: store the data and reply with its name",
		size, g.maxReply)
	if g.contracts.of(method).GetQuery() == nil {
		return status.Error(codes.Internal, text)
	}
	g.log.LogAttrs(ctx, slog.LevelError, "a query's reply is too large", slog.String("method", method),
		slog.Int("bytes", size), slog.Int("limit", g.maxReply))
	return status.Error(codes.OutOfRange, text)
}

// MaxErrorBytes is the size of the largest error that reaches a caller with its details, in bytes of the serialized
// google.rpc.Status. Errors are sent in a trailer. Proxies and clients limit those, and a refusal that is dropped on
// its way is sent for again without end.
const MaxErrorBytes = 16 << 10

// maxErrorMessageBytes is the length of the message of an error that was too large.
const maxErrorMessageBytes = 1 << 10

// limitError leaves out what is too much of an error.
func (g *guard) limitError(ctx context.Context, method string, s *status.Status) *status.Status {
	size := proto.Size(s.Proto())
	if size <= MaxErrorBytes {
		return s
	}
	g.log.LogAttrs(ctx, slog.LevelError, "a handler's error is too large, and reaches the caller without its details",
		slog.String("method", method), slog.String("code", s.Code().String()), slog.Int("bytes", size),
		slog.Int("limit", MaxErrorBytes))
	message := s.Message()
	if len(message) > maxErrorMessageBytes {
		message = strings.ToValidUTF8(message[:maxErrorMessageBytes], "")
	}
	return status.New(s.Code(), fmt.Sprintf("%s (without its details: it has %d bytes, and at most %d are allowed)",
		message, size, MaxErrorBytes))
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
		return g.limitError(ctx, method, s).Err()
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
