package main

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"

	tracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
)

// collector takes spans and throws them away, counting them.
type collector struct {
	tracepb.UnimplementedTraceServiceServer

	spans atomic.Int64
}

func (c *collector) Export(
	_ context.Context, in *tracepb.ExportTraceServiceRequest,
) (*tracepb.ExportTraceServiceResponse, error) {
	for _, resource := range in.GetResourceSpans() {
		for _, scope := range resource.GetScopeSpans() {
			c.spans.Add(int64(len(scope.GetSpans())))
		}
	}
	return &tracepb.ExportTraceServiceResponse{}, nil
}

// startCollector serves a collector until ctx ends and returns the environment variables that point to it.
func startCollector(ctx context.Context) (*collector, []string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, fmt.Errorf("listening for spans: %w", err)
	}
	c, server := new(collector), grpc.NewServer()
	tracepb.RegisterTraceServiceServer(server, c)
	context.AfterFunc(ctx, server.Stop)
	go server.Serve(listener) //nolint:errcheck // it ends with ctx
	return c, []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + listener.Addr().String(), "OTEL_EXPORTER_OTLP_PROTOCOL=grpc",
		"OTEL_METRICS_EXPORTER=none", "OTEL_LOGS_EXPORTER=none",
	}, nil
}
