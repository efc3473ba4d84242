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
	stop  func()
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

// startCollector serves a collector until it is stopped and returns the environment variables that point to it. Those
// that export spans must end first.
func startCollector() (*collector, []string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, fmt.Errorf("listening for spans: %w", err)
	}
	server := grpc.NewServer()
	c := &collector{stop: server.Stop}
	tracepb.RegisterTraceServiceServer(server, c)
	go server.Serve(listener) //nolint:errcheck // it ends when it is stopped
	return c, []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + listener.Addr().String(), "OTEL_EXPORTER_OTLP_PROTOCOL=grpc",
		"OTEL_METRICS_EXPORTER=none", "OTEL_LOGS_EXPORTER=none",
	}, nil
}
