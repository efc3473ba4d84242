package orchestrator

import (
	"fmt"
	"slices"

	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
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
// takes an answer for the participant's own. Since an interceptor of unary calls would miss the commands on a stream,
// commands to this participant are sent as unary calls, unless [WithStream] says otherwise.
func WithParticipantDialOptions(service string, options ...grpc.DialOption) Option {
	return func(s *settings) {
		if s.dialOptions == nil {
			s.dialOptions = make(map[string][]grpc.DialOption)
		}
		s.dialOptions[service] = append(s.dialOptions[service], options...)
	}
}

// WithSpanExporter exports spans to this exporter, in batches, instead of where the environment says. The exporter is
// shut down when Serve returns.
//
// An orchestrator can't take a whole tracer provider. It derives the ids of its spans from the saga, the step and the
// attempt, so that it can export spans again that a crash has lost, and a provider has no way to set ids. It also
// decides once, when a saga starts, whether the saga is traced, and keeps that in its journal. So it makes a provider
// of its own, of the parts that yours has: WithSpanExporter, [WithSpanProcessor], [WithSpanSampler] and
// [WithTelemetryResource].
func WithSpanExporter(exporter sdktrace.SpanExporter) Option {
	return func(s *settings) { s.spanExporter = exporter }
}

// WithSpanProcessor lets a span processor see each span that is exported, before the exporter does. It can be used
// several times; the processors are called in that order. Unless there is a [WithSpanExporter], the processors are all
// that gets the spans: the environment isn't asked for an exporter.
//
// A processor with an exporter, such as one of sdktrace.NewBatchSpanProcessor, may be shared with the program's own
// tracer provider: it is flushed when Serve returns, and the program shuts it down. A processor may see a span again
// after a restart, with the same ids. The orchestrator knows of a failed export only if ForceFlush returns an error.
func WithSpanProcessor(processor sdktrace.SpanProcessor) Option {
	return func(s *settings) { s.spanProcessors = append(s.spanProcessors, processor) }
}

// WithSpanSampler decides which sagas are traced, instead of OTEL_TRACES_SAMPLER. It is asked once, when a saga starts,
// and sees the saga's definition as the span's name, and the attributes treaty.saga and treaty.definition. All spans of
// the saga follow. Wrap it in sdktrace.ParentBased, so that it follows the caller's trace.
func WithSpanSampler(sampler sdktrace.Sampler) Option {
	return func(s *settings) { s.spanSampler = sampler }
}

// WithTelemetryResource describes the program in spans and metrics, instead of OTEL_SERVICE_NAME and
// OTEL_RESOURCE_ATTRIBUTES. It should be the same after a restart, without a process id: spans that a crash has lost
// are exported again.
func WithTelemetryResource(res *resource.Resource) Option {
	return func(s *settings) { s.resource = res }
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
