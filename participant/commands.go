package participant

import (
	"context"
	"sync"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/rpcconv"
	"google.golang.org/grpc"

	"github.com/treatyhq/treaty/participant/internal/commandstream"
)

// CommandStream says whether a server made by [NewServer] takes commands in batches, over the stream of
// treaty.v1.ParticipantService/StreamCommands. Where it doesn't, orchestrators make a unary call for each.
type CommandStream int

// The values of CommandStream.
const (
	// CommandStreamAuto serves the stream, unless [NewServer] got server options of gRPC: an interceptor in them would
	// not run for commands of the stream.
	CommandStreamAuto CommandStream = iota

	// CommandStreamOn serves the stream. Interceptors in the server options of gRPC don't run for commands of it, and
	// neither do stats handlers. Those in Options.Interceptors do.
	CommandStreamOn

	// CommandStreamOff doesn't serve the stream.
	CommandStreamOff
)

// on returns whether the stream is served by a server that was made with a number of gRPC's own options.
func (c CommandStream) on(options int) bool {
	return (c == CommandStreamOn || c == CommandStreamAuto && options == 0) && commandstream.Supported()
}

// commands finds the methods of a server's commands.
type commands struct {
	server    *commandstream.Server
	guard     *guard
	intercept grpc.UnaryServerInterceptor

	mu       sync.Mutex
	services []service
	methods  func() map[string]*commandstream.Method // made with the first command
}

// service is a service that was registered.
type service struct {
	desc *grpc.ServiceDesc
	impl any
}

func newCommands(g *guard, options *Options) *commands {
	c := &commands{guard: g, intercept: chain(append([]grpc.UnaryServerInterceptor{g.unary}, options.Interceptors...))}
	c.methods = sync.OnceValue(c.find)
	var spans *commandstream.Tracing
	var durations *commandstream.Durations
	if tracing() {
		spans = commandstream.NewTracing(otel.Tracer(tracerName), otel.GetTextMapPropagator())
		durations = newDurations()
	}
	c.server = commandstream.NewServer(commandstream.Params{
		Method: func(name string) *commandstream.Method { return c.methods()[name] },
		Window: int(options.MaxConcurrentStreams), MaxRequestBytes: options.maxRequestBytes(),
		MaxReplyBytes: options.MaxMessageBytes, Tracing: spans, Durations: durations,
	})
	return c
}

// newDurations returns what records how long commands take, or nil if nobody reads metrics. It is the histogram in which
// otelgrpc records unary calls, with its bounds.
func newDurations() *commandstream.Durations {
	if !recordsMetrics() {
		return nil
	}
	meter := otel.GetMeterProvider().Meter(otelgrpc.ScopeName, metric.WithInstrumentationVersion(otelgrpc.Version),
		metric.WithSchemaURL(semconv.SchemaURL))
	histogram, err := rpcconv.NewServerCallDuration(meter, metric.WithExplicitBucketBoundaries(
		0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10))
	if err != nil {
		otel.Handle(err)
		return nil
	}
	return commandstream.NewDurations(histogram.Inst())
}

// register remembers a service.
func (c *commands) register(desc *grpc.ServiceDesc, impl any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.services = append(c.services, service{desc, impl})
}

// find returns the methods that are commands or compensations in their contracts, by their full names.
func (c *commands) find() map[string]*commandstream.Method {
	c.mu.Lock()
	defer c.mu.Unlock()
	methods := make(map[string]*commandstream.Method)
	for _, s := range c.services {
		prefix := s.desc.ServiceName + "/"
		named := make(map[string]bool)
		for _, method := range s.desc.Methods {
			if contract := c.guard.contracts.of(prefix + method.MethodName); contract != nil {
				named[method.MethodName], named[contract.GetCompensatedBy()] = true, true
			}
		}
		for _, method := range s.desc.Methods {
			if named[method.MethodName] {
				methods[prefix+method.MethodName] = commandstream.NewMethod(commandstream.MethodParams{
					Path: "/" + prefix + method.MethodName, Service: s.impl, Handle: method.Handler,
					Intercept: c.intercept,
				})
			}
		}
	}
	return methods
}

// chain returns the interceptor that runs others in their order, as gRPC does for a unary call.
func chain(interceptors []grpc.UnaryServerInterceptor) grpc.UnaryServerInterceptor {
	if len(interceptors) == 1 {
		return interceptors[0]
	}
	first, others := interceptors[0], chain(interceptors[1:])
	return func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		return first(ctx, request, info, func(ctx context.Context, request any) (any, error) {
			return others(ctx, request, info, handler)
		})
	}
}
