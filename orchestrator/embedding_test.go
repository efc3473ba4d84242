package orchestrator_test

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/treatyhq/treaty/orchestrator"
)

// TestServerOptions authorizes callers with interceptors of the embedding program.
func TestServerOptions(t *testing.T) {
	t.Parallel()
	refuse := func(ctx context.Context) error {
		if values := metadata.ValueFromIncomingContext(ctx, "tenant"); !slices.Contains(values, "acme") {
			return status.Error(codes.PermissionDenied, "no such tenant")
		}
		return nil
	}
	w := unopened(t, newParticipants(t))
	w.options = append(w.options, orchestrator.WithServerOptions(
		grpc.ChainUnaryInterceptor(
			func(ctx context.Context, in any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
				if err := refuse(ctx); err != nil {
					return nil, err
				}
				return handle(ctx, in)
			}),
		grpc.ChainStreamInterceptor(
			func(server any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
				if err := refuse(stream.Context()); err != nil {
					return err
				}
				return handle(server, stream)
			}),
		grpc.MaxRecvMsgSize(1), // which the orchestrator sets itself
	))
	w.open()
	_, err := w.acme.ChangeAddress(w.ctx(), move("r", "Main Street 1"))
	if status.Code(err) != codes.PermissionDenied || status.Convert(err).Message() != "no such tenant" {
		t.Errorf("without a tenant: %v", err)
	}
	ctx := metadata.AppendToOutgoingContext(w.ctx(), "tenant", "acme")
	if _, err := w.acme.ChangeAddress(ctx, move("r", "Main Street 1")); err != nil {
		t.Errorf("with a tenant: %v", err)
	}
}

// TestParticipantDialOptions dials a participant in a way of the embedding program's own.
func TestParticipantDialOptions(t *testing.T) {
	t.Parallel()
	w := unopened(t, newParticipants(t))
	var dialled atomic.Int64
	dial := grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		dialled.Add(1)
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	})
	w.options = append(w.options, orchestrator.WithParticipantDialOptions(cardService, dial))
	w.open()
	if _, err := w.acme.ChangeAddress(w.ctx(), move("r", "Main Street 1")); err != nil {
		t.Error(err)
	}
	if dialled.Load() == 0 {
		t.Error("the participant was dialled without the option")
	}
	_, err := orchestrator.New(orchestrator.WithStore(w.store),
		orchestrator.WithParticipantDialOptions(cardService, dial))
	if err == nil || !strings.Contains(err.Error(), "no participant is configured for it") {
		t.Errorf("options for nobody: %v", err)
	}
}

// TestTelemetryOfTheProgram exports spans and metrics to where the embedding program says.
func TestTelemetryOfTheProgram(t *testing.T) {
	spans, reader := tracetest.NewInMemoryExporter(), metric.NewManualReader()
	kept := &keeping{InMemoryExporter: spans}
	w := unopened(t, newParticipants(t))
	w.options = append(w.options, orchestrator.WithSpanExporter(kept), orchestrator.WithMetricReader(reader))
	w.open()
	if _, err := w.acme.ChangeAddress(w.ctx(), move("r", "Main Street 1")); err != nil {
		t.Fatal(err)
	}
	var metrics metricdata.ResourceMetrics
	if err := reader.Collect(w.ctx(), &metrics); err != nil || len(metrics.ScopeMetrics) == 0 {
		t.Errorf("metrics %v, %v", metrics, err)
	}
	for _, name := range []string{"treaty.store.size", "treaty.store.log.size"} {
		if got := gauge(&metrics, name); got <= 0 {
			t.Errorf("%s is %d bytes", name, got)
		}
	}
	w.stop()
	var names []string
	for _, span := range kept.GetSpans() {
		names = append(names, span.Name)
	}
	for _, want := range []string{"saga succeeded", "action ChangePostalAddress"} {
		if !slices.Contains(names, want) {
			t.Errorf("no span %q among %q", want, names)
		}
	}
}

// keeping keeps the spans when it is shut down.
type keeping struct{ *tracetest.InMemoryExporter }

func (keeping) Shutdown(context.Context) error { return nil }

// gauge returns the value of a gauge, or -1 if there is none.
func gauge(metrics *metricdata.ResourceMetrics, name string) int64 {
	for _, scope := range metrics.ScopeMetrics {
		for _, m := range scope.Metrics {
			if data, ok := m.Data.(metricdata.Gauge[int64]); ok && m.Name == name && len(data.DataPoints) == 1 {
				return data.DataPoints[0].Value
			}
		}
	}
	return -1
}
