package dispatch

import (
	"context"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/rawcodec"
)

const (
	testService = "acme.test.v1.TestService"
	testMethod  = testService + "/Do"
)

const (
	outcomeDone        = treatyv1.Outcome_OUTCOME_DONE
	outcomeRefused     = treatyv1.Outcome_OUTCOME_REFUSED
	outcomeConflict    = treatyv1.Outcome_OUTCOME_CONFLICT
	outcomeMisdeployed = treatyv1.Outcome_OUTCOME_MISDEPLOYED
	outcomeThrottled   = treatyv1.Outcome_OUTCOME_THROTTLED
	outcomeUnknown     = treatyv1.Outcome_OUTCOME_UNKNOWN
)

var quiet = slog.New(slog.DiscardHandler)

// handler handles a call. Request and reply are serialized.
type handler func(ctx context.Context, request []byte) ([]byte, error)

// server is a participant that handles every method with one handler. It doesn't serve health checking.
type server struct {
	*grpc.Server
	addr string
}

// anyPort is the address of a server that may have any free port.
const anyPort = "127.0.0.1:0"

// serve starts a participant.
func serve(t testing.TB, addr string, h handler, options ...grpc.ServerOption) *server {
	t.Helper()
	s := newServer(h, options...)
	return &server{Server: s, addr: testkit.ServeOn(t, s, addr)}
}

func newServer(h handler, options ...grpc.ServerOption) *grpc.Server {
	return grpc.NewServer(append(options,
		grpc.ForceServerCodecV2(rawcodec.New()),
		grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
			if isHealth(stream) {
				return status.Error(codes.Unimplemented, "not served")
			}
			var request rawcodec.Message
			if err := stream.RecvMsg(&request); err != nil {
				return err
			}
			reply, err := h(stream.Context(), request)
			if err != nil {
				return err
			}
			return stream.SendMsg(rawcodec.Message(reply))
		}))...)
}

// isHealth returns whether a call is one of gRPC health checking, which the dispatcher makes on its own.
func isHealth(stream grpc.ServerStream) bool {
	method, _ := grpc.MethodFromServerStream(stream)
	return strings.HasPrefix(method, "/grpc.health.v1.Health/")
}

// echo returns the request.
func echo(_ context.Context, request []byte) ([]byte, error) { return request, nil }

// testConfig configures the dispatcher of a test.
type testConfig struct {
	Config

	Self *Self // of the only scope; nil if participants aren't told
}

func dispatcher(t *testing.T, target string, change ...func(*testConfig)) *Dispatcher {
	t.Helper()
	config := testConfig{Config: Config{
		Participants: []Participant{{Services: []string{testService}, Target: target}}, Logger: quiet,
	}}
	for _, c := range change {
		c(&config)
	}
	config.Scopes = config.Self != nil
	d, err := New(config.Config)
	if err != nil {
		t.Fatal(err)
	}
	if config.Self != nil {
		d.Open(config.Self)
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

// received returns the metadata of the call that a participant handles.
func received(ctx context.Context) metadata.MD {
	md, _ := metadata.FromIncomingContext(ctx)
	return md
}

// expectNoLeak fails the test if goroutines of this package or of gRPC outlive it.
func expectNoLeak(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		deadline := time.Now().Add(5 * time.Second)
		for {
			buf := make([]byte, 1<<20)
			stacks := string(buf[:runtime.Stack(buf, true)])
			var leaked []string
			for stack := range strings.SplitSeq(stacks, "\n\n") {
				if strings.Contains(stack, "orchestrator/internal/dispatch.(*") ||
					strings.Contains(stack, "google.golang.org/grpc/internal/transport.") {
					leaked = append(leaked, stack)
				}
			}
			if len(leaked) == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Errorf("%d goroutines leaked:\n%s", len(leaked), strings.Join(leaked, "\n\n"))
				return
			}
			runtime.Gosched()
		}
	})
}
