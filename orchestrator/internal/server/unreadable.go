package server

import (
	"context"
	"math"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/rawcodec"
	"github.com/treatyhq/treaty/orchestrator/internal/untrusted"
)

// receive receives a request as bytes and parses it. If gRPC parsed it, it would answer one that can't be parsed with
// INTERNAL by itself, as if the orchestrator had failed. failed says that receiving failed, so that the error is gRPC's
// own.
func receive(request any, from func(any) error) (failed bool, err error) {
	message, parsed := request.(proto.Message)
	if !parsed {
		err = from(request)
		return err != nil, err
	}
	var data rawcodec.Message
	if err := from(&data); err != nil {
		return true, err
	}
	if most := maxBytesOf(message); len(data) > most {
		return false, invalid("request", "has %d bytes; at most %d are allowed", len(data), most)
	}
	if err := untrusted.Unmarshal(data, message); err != nil {
		return false, invalid("request", "can't be read as %s: %s", message.ProtoReflect().Descriptor().FullName(),
			untrusted.Reason(err))
	}
	return false, nil
}

// maxSmallRequest limits a request that carries no payload of an application, in bytes.
const maxSmallRequest = 64 << 10

// maxBytesOf returns the limit of a request, in bytes. Those with payloads have that of the server.
func maxBytesOf(request proto.Message) int {
	switch request.(type) {
	case *treatyv1.CreateSagaRequest, *treatyv1.ResumeSagaRequest, *treatyv1.CompleteStepRequest,
		*treatyv1.PublishEventsRequest:
		return math.MaxInt
	default:
		return maxSmallRequest
	}
}

// registrar registers services whose unary methods answer a request that can't be parsed as one that is invalid.
type registrar struct{ server *Server }

// RegisterService registers a service.
func (r registrar) RegisterService(desc *grpc.ServiceDesc, implementation any) {
	wrapped := *desc
	wrapped.Methods = slices.Clone(desc.Methods)
	for i, method := range wrapped.Methods {
		wrapped.Methods[i].Handler = r.server.withReadable(desc.ServiceName+"/"+method.MethodName, method.Handler)
	}
	r.server.grpc.RegisterService(&wrapped, implementation)
}

// withReadable returns a method's handler whose requests are received with receive. Interceptors don't see a request
// that can't be parsed.
func (s *Server) withReadable(method string, handle grpc.MethodHandler) grpc.MethodHandler {
	return func(
		implementation any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor,
	) (any, error) {
		return handle(implementation, ctx, func(request any) error {
			failed, err := receive(request, decode)
			if err == nil || failed {
				return err
			}
			_ = grpc.SetTrailer(ctx, markOf(err))
			return s.explain(ctx, method, nil, err)
		}, interceptor)
	}
}
