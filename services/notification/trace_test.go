package notification_test

import (
	"context"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	notificationv1 "github.com/treatyhq/treaty/gen/acme/notification/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/participant/participanttest"
)

// collector receives spans over gRPC and over HTTP.
type collector struct {
	collectorpb.UnimplementedTraceServiceServer

	got chan *tracepb.ResourceSpans
}

// Export implements the service of a collector.
func (c *collector) Export(
	_ context.Context, request *collectorpb.ExportTraceServiceRequest,
) (*collectorpb.ExportTraceServiceResponse, error) {
	for _, spans := range request.GetResourceSpans() {
		c.got <- spans
	}
	return &collectorpb.ExportTraceServiceResponse{}, nil
}

// ServeHTTP accepts spans. It refuses metrics.
func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	request := new(collectorpb.ExportTraceServiceRequest)
	if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, request) != nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	_, _ = c.Export(r.Context(), request)
}

// listen returns the endpoint of a collector for each protocol.
func (c *collector) listen(t *testing.T) map[string]string {
	t.Helper()
	server := grpc.NewServer()
	collectorpb.RegisterTraceServiceServer(server, c)
	over := httptest.NewServer(c)
	t.Cleanup(over.Close)
	return map[string]string{"grpc": "http://" + testkit.Serve(t, server), "http/protobuf": over.URL, "": over.URL}
}

// TestTraces makes the same calls to both twins. Each exports a span of every call below the caller's, with what the
// inbox did and the code of the answer, and within the time of the process. Health checks have no spans.
func TestTraces(t *testing.T) {
	const traceID, parentID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	c := &collector{got: make(chan *tracepb.ResourceSpans, 16)}
	for protocol, endpoint := range c.listen(t) {
		for name, build := range implementations {
			t.Run(name+" "+protocol, func(t *testing.T) {
				command := build(t) // before the variables, which the compiler would take for its own
				t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
				t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
				t.Setenv("OTEL_METRICS_EXPORTER", "none")
				p := start(t, command, filepath.Join(t.TempDir(), "notification.db"))
				began := time.Now()
				ctx := metadata.AppendToOutgoingContext(participanttest.Action(t.Context(), "a", 1),
					"traceparent", "00-"+traceID+"-"+parentID+"-01")
				if _, err := p.SendWelcome(ctx, welcome()); err != nil {
					t.Fatal(err)
				}
				ctx = metadata.AppendToOutgoingContext(participanttest.Action(t.Context(), "b", 1),
					"traceparent", "00-"+traceID+"-"+parentID+"-01")
				invalid := &notificationv1.SendWelcomeRequest{Customer: "customers/1"}
				if _, err := p.SendWelcome(ctx, invalid); status.Code(err) != codes.InvalidArgument {
					t.Fatalf("got %v, want INVALID_ARGUMENT", err)
				}
				// A server's span may end after the caller has its answer, but before the server has stopped.
				p.stop(t)
				ended := time.Now()
				var spans []*tracepb.Span
				for len(spans) < 2 {
					select {
					case exported := <-c.got:
						service := valueOf(exported.GetResource().GetAttributes(), "service.name")
						if service != "notification" {
							t.Errorf("the service is named %q", service)
						}
						for _, scope := range exported.GetScopeSpans() {
							spans = append(spans, scope.GetSpans()...)
						}
					case <-time.After(10 * time.Second):
						t.Fatalf("%d spans arrived, want 2", len(spans))
					}
				}
				verdicts := make(map[string]bool)
				for _, s := range spans {
					verdicts[valueOf(s.GetAttributes(), "treaty.inbox.verdict")] = true
					if hex.EncodeToString(s.GetTraceId()) != traceID ||
						hex.EncodeToString(s.GetParentSpanId()) != parentID ||
						s.GetKind() != tracepb.Span_SPAN_KIND_SERVER ||
						s.GetName() != "acme.notification.v1.NotificationService/SendWelcome" {
						t.Errorf("got the span %v, want one below the caller's", s)
					}
					from := time.Unix(0, int64(s.GetStartTimeUnixNano()))
					to := time.Unix(0, int64(s.GetEndTimeUnixNano()))
					if from.Before(began) || !to.After(from) || to.After(ended.Add(time.Millisecond)) {
						t.Errorf("the span lasts from %v to %v, the calls from %v to %v", from, to, began, ended)
					}
				}
				if len(spans) != 2 || !verdicts["executed"] || !verdicts["refused"] {
					t.Errorf("got %d spans with the verdicts %v, want executed and refused", len(spans), verdicts)
				}
			})
		}
	}
}

func valueOf(attributes []*commonpb.KeyValue, key string) string {
	for _, a := range attributes {
		if a.GetKey() == key {
			return a.GetValue().GetStringValue()
		}
	}
	return ""
}
