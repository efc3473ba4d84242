package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/access"
	"github.com/treatyhq/treaty/orchestrator/internal/quota"
	"github.com/treatyhq/treaty/orchestrator/internal/untrusted"
)

// smallReply is the largest reply of a unary call, in bytes, that isn't counted. The number of such replies is limited
// by that of a connection's calls.
const smallReply = 4 << 10

// callerOf returns who makes a call, and on which connection, as the limits count them.
func callerOf(ctx context.Context) (connection, caller string) {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return "", ""
	}
	connection = p.Addr.String()
	if who := access.PrincipalOf(ctx); who.Kind != access.Anonymous {
		return connection, who.String()
	}
	host, _, err := net.SplitHostPort(connection)
	if err != nil {
		return connection, connection
	}
	return connection, host
}

// openStream counts a stream of the caller. The call must be closed.
func (s *Server) openStream(ctx context.Context) (*quota.Call, error) {
	// What the transport holds of a compressed message isn't known.
	if err := grpc.SetSendCompressor(ctx, encoding.Identity); err != nil {
		return nil, fmt.Errorf("opening a stream: %w", err)
	}
	connection, caller := callerOf(ctx)
	call, err := s.quota.Stream(connection, caller)
	switch limits := s.quota.Limits(); {
	case errors.Is(err, quota.ErrCallerStreams):
		return nil, limitReached("%s has %d streams open, as many as a caller may have: end some, or raise "+
			"--caller-streams", untrusted.Shorten(caller), limits.Streams)
	case errors.Is(err, quota.ErrTotalStreams):
		return nil, limitReached("%d streams are open, as many as this orchestrator allows: repeat the call later, "+
			"or raise --total-streams", limits.TotalStreams)
	}
	return call, err
}

// limitReached returns the error of a call that a limit doesn't allow.
func limitReached(format string, args ...any) error {
	return &apiError{
		code: codes.ResourceExhausted, reason: treatyv1.ErrorReason_ERROR_REASON_LIMIT_REACHED,
		message: fmt.Sprintf(format, args...),
	}
}

// awaitReader waits until the client has taken what was sent before, so that it gets the newest state of its saga.
func (s *Server) awaitReader(ctx context.Context, call *quota.Call) error {
	room, err := call.Reserve(ctx, 0)
	if err != nil {
		return s.stalled(err)
	}
	room.Close()
	return nil
}

// sendChange waits for room, and sends a change of a saga.
func (s *Server) sendChange(ctx context.Context, call *quota.Call, encoded []byte, stream grpc.ServerStream) error {
	room, err := call.Reserve(ctx, int64(len(encoded)))
	if err != nil {
		return s.stalled(err)
	}
	defer room.Close()
	if err := stream.SendMsg(room.Message(encoded)); err != nil {
		return sendError("sending a change", err)
	}
	return nil
}

// stalled returns the error of a stream that got no room.
func (s *Server) stalled(err error) error {
	if !errors.Is(err, quota.ErrStalled) {
		return err
	}
	return &apiError{
		code: codes.ResourceExhausted, reason: treatyv1.ErrorReason_ERROR_REASON_STREAM_STALLED,
		message: fmt.Sprintf("the reader of this stream, or the caller's others, took nothing for %v: read what has "+
			"arrived, and open the stream again", s.quota.Limits().StalledAfter),
	}
}

// heldStream is a stream whose messages are counted until they are written.
type heldStream struct {
	grpc.ServerStream

	server *Server
	call   *quota.Call
}

// SendMsg waits for room, and sends a message.
func (h *heldStream) SendMsg(message any) error {
	parsed, is := message.(proto.Message)
	if !is {
		return fmt.Errorf("a %T isn't a message", message)
	}
	encoded, err := proto.Marshal(parsed)
	if err != nil {
		return fmt.Errorf("serializing a message: %w", err)
	}
	room, err := h.call.Reserve(h.Context(), int64(len(encoded)))
	if err != nil {
		return h.server.stalled(err)
	}
	defer room.Close()
	return h.ServerStream.SendMsg(room.Message(encoded))
}

// holdStream is the interceptor of streams that counts those of gRPC's reflection, whose messages are large. The
// streams of this package count for themselves.
func (s *Server) holdStream(
	service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler,
) error {
	if !strings.HasPrefix(info.FullMethod, "/grpc.reflection.") {
		return handle(service, stream)
	}
	call, err := s.openStream(stream.Context())
	if err == nil {
		defer call.Close()
		err = handle(service, &heldStream{ServerStream: stream, server: s, call: call})
	}
	if made, is := errors.AsType[*apiError](err); is {
		return made.GRPCStatus().Err()
	}
	return err
}

// holdReply is the interceptor of unary calls that counts large replies until they are written. Their callers could
// otherwise ask for many, and read none.
func (s *Server) holdReply(
	ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler,
) (any, error) {
	reply, err := handle(ctx, request)
	if err != nil {
		return reply, err
	}
	var size int
	encoded, raw := reply.(payload)
	message, parsed := reply.(proto.Message)
	switch {
	case raw:
		size = len(encoded)
	case parsed:
		size = proto.Size(message)
	}
	if size <= smallReply {
		return reply, nil
	}
	call := s.quota.Unary(callerOf(ctx))
	defer call.Close()
	room, err := call.Reserve(ctx, int64(size))
	if err != nil {
		return nil, s.explain(ctx, info.FullMethod[1:], request, s.replyHeld(err))
	}
	defer room.Close()
	if parsed {
		if encoded, err = proto.Marshal(message); err != nil {
			return nil, s.explain(ctx, info.FullMethod[1:], request, fmt.Errorf("serializing a reply: %w", err))
		}
	}
	if err := grpc.SetSendCompressor(ctx, encoding.Identity); err != nil {
		return nil, s.explain(ctx, info.FullMethod[1:], request, fmt.Errorf("sending a reply: %w", err))
	}
	return room.Message(encoded), nil
}

// replyHeld returns the error of a reply for which there is no room.
func (s *Server) replyHeld(err error) error {
	if !errors.Is(err, quota.ErrStalled) {
		return err
	}
	return limitReached("the caller's earlier replies weren't read for %v, so this one isn't sent: read them, and "+
		"repeat the call", s.quota.Limits().StalledAfter)
}

// Usage returns what callers hold now.
func (s *Server) Usage() quota.Usage { return s.quota.Usage() }
