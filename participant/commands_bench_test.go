package participant_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"syscall"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/participant"
)

// BenchmarkCommands sends commands with a trivial handler over loopback, with a number of them in flight, and receives
// the answers. Both ends count.
func BenchmarkCommands(b *testing.B) {
	for _, inFlight := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("stream/inflight=%d", inFlight), func(b *testing.B) { benchmarkStream(b, inFlight, "") })
	}
	for _, inFlight := range []int{1, 64} {
		b.Run(fmt.Sprintf("unary/inflight=%d", inFlight), func(b *testing.B) { benchmarkUnary(b, inFlight) })
	}
}

// BenchmarkTracedCommands is BenchmarkCommands in a process that records spans.
func BenchmarkTracedCommands(b *testing.B) {
	provider, propagator := otel.GetTracerProvider(), otel.GetTextMapPropagator()
	defer otel.SetTracerProvider(provider)
	defer otel.SetTextMapPropagator(propagator)
	otel.SetTracerProvider(sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(tracetest.NewNoopExporter(), sdktrace.WithMaxQueueSize(1<<16))))
	otel.SetTextMapPropagator(propagation.TraceContext{})
	for name, parent := range map[string]string{
		"unsampled": traceparent[:len(traceparent)-1] + "0", "sampled": traceparent,
	} {
		b.Run("stream/"+name, func(b *testing.B) { benchmarkStream(b, 64, parent) })
	}
}

func benchmarked(b *testing.B) *grpc.ClientConn {
	b.Helper()
	server, err := participant.NewServer(participant.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	start(b, server, &changer{change: echoing})
	return testkit.Dial(b, server.Addr().String())
}

// commandOf returns a command with all that an orchestrator sends.
func commandOf(b *testing.B, number uint64) *treatyv1.StreamedCommand {
	b.Helper()
	c := action(b, "customers/1")
	c.Number, c.SagaStartMicros, c.TimeoutMicros = number, 1_700_000_000_000_000, 30e6
	c.CommandId = "sagas/01890a5d-ac96-774b-bcce-b302099a8057/steps/1"
	c.RequestDigest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	return c
}

func benchmarkStream(b *testing.B, inFlight int, parent string) {
	b.Helper()
	stream, err := treatyv1.NewParticipantServiceClient(benchmarked(b)).StreamCommands(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	if err := stream.Send(&treatyv1.StreamCommandsRequest{Greeting: testkit.Greeting()}); err != nil {
		b.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		b.Fatal(err)
	}
	// Each answer is followed by another command, in batches as large as those of the answers.
	answered := make(chan int, inFlight)
	answered <- inFlight
	go func() {
		defer close(answered)
		for n := 0; n < b.N; {
			response, err := stream.Recv()
			if err != nil {
				b.Errorf("%d of %d commands were answered: %v", n, b.N, err)
				return
			}
			n += len(response.GetAnswers())
			answered <- len(response.GetAnswers())
		}
	}()
	c := commandOf(b, 0)
	b.ReportAllocs()
	b.ResetTimer()
	began := cpuTime(b)
	batches, sent := 0, 0
	message := new(treatyv1.StreamCommandsRequest)
	for n := range answered {
		for more := true; more; {
			runtime.Gosched()
			select {
			case next, ok := <-answered:
				n += next
				more = ok
			default:
				more = false
			}
		}
		message.Commands = message.Commands[:0]
		for ; n > 0 && sent < b.N; n-- {
			sent++
			one := &treatyv1.StreamedCommand{
				Number: uint64(sent), Method: c.Method, CommandId: c.CommandId, Direction: c.Direction, Attempt: 1,
				SagaStartMicros: c.SagaStartMicros, RequestDigest: c.RequestDigest, TimeoutMicros: c.TimeoutMicros,
				Traceparent: parent, Request: c.Request,
			}
			message.Commands = append(message.Commands, one)
		}
		if len(message.Commands) == 0 {
			continue
		}
		batches++
		if err := stream.Send(message); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(cpuTime(b)-began)/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(sent)/float64(batches), "commands/batch")
	if err := stream.CloseSend(); err != nil {
		b.Fatal(err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		b.Fatal(err)
	}
}

func benchmarkUnary(b *testing.B, inFlight int) {
	b.Helper()
	connection := benchmarked(b)
	c := commandOf(b, 1)
	b.ReportAllocs()
	b.SetParallelism((inFlight + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
	b.ResetTimer()
	began := cpuTime(b)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if got := sendUnary(b.Context(), connection, c); got.Code != 0 {
				b.Error(got)
				return
			}
		}
	})
	b.ReportMetric(float64(cpuTime(b)-began)/float64(b.N), "cpu-ns/op")
}

// cpuTime returns the time that all threads of this process have used, which other processes hardly change.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
