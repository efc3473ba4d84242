package main

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
)

// startTracing makes the process export its spans to where the environment says. The function that it returns exports
// those that are left, if the collector still runs.
func startTracing(ctx context.Context, service string) (shutDown func() error, err error) {
	exporter, err := autoexport.NewSpanExporter(ctx)
	if err != nil {
		return nil, fmt.Errorf("setting up the export of spans: %w", err)
	}
	otel.SetTextMapPropagator(propagation.TraceContext{})
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter, sdktrace.WithBatchTimeout(time.Second)),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", service))))
	otel.SetTracerProvider(provider)
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), grace/2)
		defer cancel()
		return provider.Shutdown(ctx)
	}, nil
}

// tracedServer makes a plain gRPC server record spans, as startTracing has configured it.
func tracedServer() grpc.ServerOption { return grpc.StatsHandler(otelgrpc.NewServerHandler()) }

// tracedClient makes a plain gRPC connection record spans, as startTracing has configured it.
func tracedClient() grpc.DialOption { return grpc.WithStatsHandler(otelgrpc.NewClientHandler()) }
