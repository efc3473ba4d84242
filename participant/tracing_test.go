package participant_test

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc/metadata"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/participant"
)

func TestTracesCallsInTheCallersTrace(t *testing.T) {
	provider, propagator := otel.GetTracerProvider(), otel.GetTextMapPropagator()
	defer otel.SetTracerProvider(provider)
	defer otel.SetTextMapPropagator(propagator)
	recorder := tracetest.NewSpanRecorder()
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)))
	otel.SetTextMapPropagator(propagation.TraceContext{})

	server, stopServer := serve(t, participant.Options{},
		&fake{get: func(context.Context, string) (*customerv1.Customer, error) {
			return &customerv1.Customer{}, nil
		}})
	client := customerv1.NewCustomerServiceClient(testkit.Dial(t, server.Addr().String()))
	ctx := metadata.AppendToOutgoingContext(t.Context(),
		"traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	if _, err := client.GetCustomer(ctx, &customerv1.GetCustomerRequest{}); err != nil {
		t.Fatal(err)
	}
	stopServer()
	spans := recorder.Ended()
	if len(spans) != 1 {
		t.Fatalf("%d spans, want one", len(spans))
	}
	trace, parent := spans[0].SpanContext().TraceID().String(), spans[0].Parent().SpanID().String()
	if trace != "4bf92f3577b34da6a3ce929d0e0e4736" || parent != "00f067aa0ba902b7" {
		t.Errorf("the span is in trace %s under %s", trace, parent)
	}
}
