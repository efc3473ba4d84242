package orchestrator

import (
	"fmt"
	"slices"

	"go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"

	"github.com/treatyhq/treaty/orchestrator/internal/dispatch"
)

// WithServerOptions adds gRPC options to those of the API, such as grpc.ChainUnaryInterceptor and
// grpc.ChainStreamInterceptor. Interceptors run before the orchestrator's own checks, and what they return reaches the
// caller unchanged, so they can authorize calls. What the orchestrator sets itself can't be changed: codec, limits,
// keepalive, and credentials (see WithTLS).
func WithServerOptions(options ...grpc.ServerOption) Option {
	return func(s *settings) { s.serverOptions = append(s.serverOptions, options...) }
}

// WithParticipantDialOptions adds gRPC options to those of the connection to the participant that serves a service,
// such as grpc.WithContextDialer or interceptors. What the orchestrator sets itself can't be changed: codec, balancing,
// keepalive, and credentials (see WithParticipantTLSFor).
//
// An interceptor must make each call at most once, and must not answer in the participant's place: the orchestrator
// takes an answer for the participant's own.
func WithParticipantDialOptions(service string, options ...grpc.DialOption) Option {
	return func(s *settings) {
		if s.dialOptions == nil {
			s.dialOptions = make(map[string][]grpc.DialOption)
		}
		s.dialOptions[service] = append(s.dialOptions[service], options...)
	}
}

// WithSpanExporter exports spans to this exporter, in batches, instead of where the environment says. The orchestrator
// derives the ids of its spans, so it needs a tracer provider of its own. The exporter is shut down when Serve returns.
func WithSpanExporter(exporter sdktrace.SpanExporter) Option {
	return func(s *settings) { s.spanExporter = exporter }
}

// WithMetricReader lets this reader read the metrics, instead of exporting them where the environment says. The reader
// is shut down when Serve returns.
func WithMetricReader(reader metric.Reader) Option {
	return func(s *settings) { s.metricReader = reader }
}

// dialWith adds the options of connections to the participants.
func (s *settings) dialWith(participants []dispatch.Participant) error {
	for service, options := range s.dialOptions {
		i := serving(participants, service)
		if i < 0 {
			return fmt.Errorf("there are dial options for %s, but no participant is configured for it", service)
		}
		participants[i].DialOptions = slices.Concat(participants[i].DialOptions, options)
	}
	return nil
}
