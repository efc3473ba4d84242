package orchestrator_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/orchestrator"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// A program with a tracer provider of its own gives the orchestrator the same parts. Its span and those of the saga
// make one trace, and are exported together.
func ExampleWithSpanProcessor() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	dir, err := os.MkdirTemp("", "treaty")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	// The program's own telemetry.
	exporter := tracetest.NewInMemoryExporter() // usually that of otlptracehttp
	var (
		processor = sdktrace.NewBatchSpanProcessor(exporter)
		sampler   = sdktrace.ParentBased(sdktrace.AlwaysSample())
		shop      = resource.NewSchemaless(semconv.ServiceName("shop"))
	)
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(processor), sdktrace.WithSampler(sampler),
		sdktrace.WithResource(shop))

	// An orchestrator with the same.
	ready := make(chan orchestrator.Ready, 1)
	o, err := orchestrator.New(
		orchestrator.WithSpanProcessor(processor),
		orchestrator.WithSpanSampler(sampler),
		orchestrator.WithTelemetryResource(shop),
		orchestrator.WithStore(filepath.Join(dir, "treaty.db")),
		orchestrator.WithLogger(slog.New(slog.DiscardHandler)),
		orchestrator.WithReady(func(r orchestrator.Ready) { ready <- r }),
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	saga.Register(o, customerv1.CustomerSagas_ChangeAddress_FullMethodName,
		func(saga.Context, *customerv1.ChangeAddressSagaRequest) (*customerv1.AddressAgreed, error) {
			return &customerv1.AddressAgreed{}, nil
		})
	served := make(chan error, 1)
	go func() { served <- o.ListenAndServe(ctx, "127.0.0.1:0") }()

	// A caller with a span, which otelgrpc would put into the metadata.
	caller, span := provider.Tracer("shop").Start(ctx, "checkout")
	conn, err := grpc.NewClient((<-ready).Address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := customerv1.NewCustomerSagasClient(conn).ChangeAddress(traced(caller),
		&customerv1.ChangeAddressSagaRequest{Customer: "customers/ada"}); err != nil {
		fmt.Println(err)
	}
	_ = conn.Close()
	span.End()

	stop()
	fmt.Println("stopped:", <-served)
	if err := provider.ForceFlush(context.Background()); err != nil { // Shutdown empties this exporter
		fmt.Println(err)
	}
	for _, name := range []string{"checkout", "acme.customer.v1.CustomerSagas/ChangeAddress", "saga succeeded"} {
		for _, exported := range exporter.GetSpans() {
			if exported.Name == name {
				fmt.Println(name, "in the trace of checkout:",
					exported.SpanContext.TraceID() == span.SpanContext().TraceID())
			}
		}
	}
	// Output:
	// stopped: <nil>
	// checkout in the trace of checkout: true
	// acme.customer.v1.CustomerSagas/ChangeAddress in the trace of checkout: true
	// saga succeeded in the trace of checkout: true
}

// traced returns a context for a call that continues the context's trace.
func traced(ctx context.Context) context.Context {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return metadata.NewOutgoingContext(ctx, metadata.New(carrier))
}
