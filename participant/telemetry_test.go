package participant_test

import (
	"context"
	"errors"
	"flag"
	"io"
	"testing"

	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/participant"
)

func TestTracesCallsInTheCallersTrace(t *testing.T) {
	before := otel.GetTracerProvider()
	defer otel.SetTracerProvider(before)
	// No exporter is asked for, so only the propagation is set.
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "")
	t.Setenv("OTEL_TRACES_EXPORTER", "")
	stop, err := participant.Telemetry(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := stop(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	recorder := tracetest.NewSpanRecorder()
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)))

	server, stopServer := serve(t, participant.Options{}, &fake{get: func(context.Context, string) (*customerv1.Customer, error) { return &customerv1.Customer{}, nil }})
	client := customerv1.NewCustomerServiceClient(dial(t, server.Addr().String(), insecure.NewCredentials()))
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	if _, err := client.GetCustomer(ctx, &customerv1.GetCustomerRequest{}); err != nil {
		t.Fatal(err)
	}
	stopServer()
	spans := recorder.Ended()
	if len(spans) != 1 {
		t.Fatalf("%d spans, want one", len(spans))
	}
	if s := spans[0]; s.SpanContext().TraceID().String() != "4bf92f3577b34da6a3ce929d0e0e4736" || s.Parent().SpanID().String() != "00f067aa0ba902b7" {
		t.Errorf("the span is in trace %s under %s", s.SpanContext().TraceID(), s.Parent().SpanID())
	}
}

func TestBadExporter(t *testing.T) {
	t.Setenv("OTEL_TRACES_EXPORTER", "pigeon")
	if _, err := participant.Telemetry(t.Context(), "test"); err == nil {
		t.Error("an exporter that isn't there is taken")
	}
}

func TestParseFlags(t *testing.T) {
	for _, test := range []struct {
		arguments []string
		ok, help  bool
	}{
		{[]string{"--listen=127.0.0.1:1", "--insecure"}, true, false},
		{[]string{"--nonsense"}, false, false},
		{[]string{"argument"}, false, false},
		{[]string{"--help"}, false, true},
	} {
		var options participant.Options
		flags := flag.NewFlagSet("test", flag.ContinueOnError)
		flags.SetOutput(io.Discard)
		options.AddFlags(flags)
		err := participant.ParseFlags(flags, test.arguments)
		if (err == nil) != test.ok || errors.Is(err, flag.ErrHelp) != test.help {
			t.Errorf("%q: %v", test.arguments, err)
		}
	}
}
