package dispatch

import (
	"context"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/rawcodec"
)

const (
	testService = "acme.test.v1.TestService"
	testMethod  = testService + "/Do"
)

var quiet = slog.New(slog.DiscardHandler)

// handler answers one call: the raw request in, the raw reply out.
type handler func(ctx context.Context, request []byte) ([]byte, error)

// server is a participant that serves every method with one handler.
type server struct {
	*grpc.Server
	addr string
}

// serve starts a participant; addr may be empty.
func serve(t testing.TB, addr string, h handler) *server {
	t.Helper()
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{
		Server: grpc.NewServer(
			grpc.ForceServerCodecV2(rawcodec.New()),
			grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
				var request rawcodec.Message
				if err := stream.RecvMsg(&request); err != nil {
					return err
				}
				reply, err := h(stream.Context(), request)
				if err != nil {
					return err
				}
				return stream.SendMsg(rawcodec.Message(reply))
			})),
		addr: listener.Addr().String(),
	}
	var done sync.WaitGroup
	done.Go(func() { _ = s.Serve(listener) })
	t.Cleanup(func() { s.Stop(); done.Wait() })
	return s
}

// echo answers with the request.
func echo(_ context.Context, request []byte) ([]byte, error) { return request, nil }

func dispatcher(t *testing.T, target string, change ...func(*Config)) *Dispatcher {
	t.Helper()
	config := Config{Participants: []Participant{{Services: []string{testService}, Target: target}}, Logger: quiet}
	for _, c := range change {
		c(&config)
	}
	d, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close(context.Background()) })
	return d
}

func attempt() *engine.Attempt {
	return &engine.Attempt{
		Saga:      "sagas/s1",
		Step:      "3",
		Direction: engine.Action,
		Number:    1,
		Epoch:     7,
		Call:      &contract.CallConfig{Method: testMethod, Timeout: 10 * time.Second},
		Request:   []byte("request"),
	}
}

// incoming returns the metadata that a participant sees.
func incoming(ctx context.Context) metadata.MD {
	md, _ := metadata.FromIncomingContext(ctx)
	return md
}

// expectNoLeak fails the test when goroutines of this module or of gRPC outlive it.
func expectNoLeak(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		deadline := time.Now().Add(5 * time.Second)
		for {
			buf := make([]byte, 1<<20)
			stacks := string(buf[:runtime.Stack(buf, true)])
			var leaked []string
			for g := range strings.SplitSeq(stacks, "\n\n") {
				if strings.Contains(g, "orchestrator/internal/dispatch.(*breaker)") || strings.Contains(g, "orchestrator/internal/dispatch.(*discovery)") || strings.Contains(g, "orchestrator/internal/dispatch.(*inquiry)") || strings.Contains(g, "google.golang.org/grpc/internal/transport.") {
					leaked = append(leaked, g)
				}
			}
			if len(leaked) == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Errorf("%d goroutines left behind:\n%s", len(leaked), strings.Join(leaked, "\n\n"))
				return
			}
			runtime.Gosched()
		}
	})
}
