package server

import (
	"bytes"
	"context"
	"log/slog"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoregistry"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
)

// oversizedStream is a stream whose request gRPC doesn't accept.
type oversizedStream struct {
	grpc.ServerStream

	ctx context.Context
}

func (s oversizedStream) Context() context.Context { return s.ctx }

func (oversizedStream) RecvMsg(any) error { return status.Error(codes.ResourceExhausted, "too large") }

// A request that gRPC can't receive is the client's error, so it isn't logged as a failure of the orchestrator.
func TestUnreceivedRequestIsNoFailure(t *testing.T) {
	catalog, err := contract.Load(protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	s := &Server{catalog: catalog, logger: slog.New(slog.NewTextHandler(&log, nil))}
	info := &grpc.StreamServerInfo{FullMethod: treatyv1.EventService_StreamEvents_FullMethodName}
	err = s.interceptStream(s, oversizedStream{ctx: t.Context()}, info, func(_ any, stream grpc.ServerStream) error {
		return stream.RecvMsg(new(treatyv1.StreamEventsRequest))
	})
	if status.Code(err) != codes.ResourceExhausted || log.Len() > 0 {
		t.Errorf("error %v, log %q; want gRPC's own error and no log", err, log.String())
	}
}
