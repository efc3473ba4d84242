package hostile_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/treatyhq/treaty/internal/hostile"
	"github.com/treatyhq/treaty/internal/testkit"
)

const (
	patience = 20 * time.Second

	echoMethod   = "/test.v1.Echo/Echo"
	refuseMethod = "/test.v1.Echo/Refuse"
	chatMethod   = "/test.v1.Echo/Chat"
	hangMethod   = "/test.v1.Echo/Hang"

	markKey  = "x-mark"
	otherKey = "x-other"
)

// upstream is a gRPC server that counts what it executes.
type upstream struct {
	server  *grpc.Server
	address string

	mu       sync.Mutex
	executed int
	metadata metadata.MD
	deadline time.Time
	canceled chan struct{}
	hanging  chan struct{}
	release  chan struct{} // lets Hang answer
}

func startUpstream(t *testing.T, options ...grpc.ServerOption) *upstream {
	t.Helper()
	u := &upstream{canceled: make(chan struct{}), hanging: make(chan struct{}), release: make(chan struct{})}
	const limit = 16 << 20
	u.server = grpc.NewServer(append(options, grpc.UnknownServiceHandler(u.handle), grpc.MaxRecvMsgSize(limit))...)
	u.address = testkit.Serve(t, u.server)
	return u
}

// handle serves the methods: Echo answers with its request, Refuse with an error, Chat with every message of a stream,
// and Hang only when it is released.
func (u *upstream) handle(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	in := new(wrapperspb.BytesValue)
	if err := stream.RecvMsg(in); err != nil {
		return err
	}
	u.count(stream.Context())
	if err := stream.SetHeader(metadata.Pairs(markKey, "header", "x-bytes-bin", "\x00\xff")); err != nil {
		return err
	}
	stream.SetTrailer(metadata.Pairs(markKey, "trailer", otherKey, "1", otherKey, "2"))
	switch method {
	case refuseMethod:
		return status.Error(codes.FailedPrecondition, "refused: 100 % sure\nand ü")
	case hangMethod:
		close(u.hanging)
		select {
		case <-u.release:
			return stream.SendMsg(in)
		case <-stream.Context().Done():
			close(u.canceled)
			return status.FromContextError(stream.Context().Err()).Err()
		}
	case chatMethod:
		return chat(stream, in)
	default:
		return stream.SendMsg(in)
	}
}

func chat(stream grpc.ServerStream, in *wrapperspb.BytesValue) error {
	for {
		if err := stream.SendMsg(in); err != nil {
			return err
		}
		in = new(wrapperspb.BytesValue)
		if err := stream.RecvMsg(in); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func (u *upstream) count(ctx context.Context) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.executed++
	u.metadata, _ = metadata.FromIncomingContext(ctx)
	u.deadline, _ = ctx.Deadline()
}

func (u *upstream) executions() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.executed
}

func (u *upstream) received() (metadata.MD, time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.metadata, u.deadline
}

func startMiddle(t *testing.T, address string, options hostile.Options) *hostile.Middle {
	t.Helper()
	middle, err := hostile.Listen(address, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(middle.Close)
	return middle
}

// start starts an upstream, a middle that gives the first call a plan and passes later ones on, and a client.
func start(t *testing.T, plan hostile.Plan) (*upstream, *hostile.Middle, *grpc.ClientConn) {
	t.Helper()
	u := startUpstream(t)
	middle := startMiddle(t, u.address, hostile.Options{})
	middle.Program(first(plan))
	return u, middle, dial(t, middle)
}

func dial(t *testing.T, middle *hostile.Middle) *grpc.ClientConn {
	t.Helper()
	const limit = 16 << 20
	return testkit.Dial(t, middle.Addr(), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(limit)))
}

func first(plan hostile.Plan) hostile.Program {
	return func(call *hostile.Call) hostile.Plan {
		if call.Number == 1 {
			return plan
		}
		return hostile.Pass()
	}
}

// answer is what a client sees of a unary call.
type answer struct {
	err              error
	reply            string
	headers, trailer metadata.MD
}

func call(ctx context.Context, conn *grpc.ClientConn, method, request string) answer {
	var a answer
	reply := new(wrapperspb.BytesValue)
	a.err = conn.Invoke(ctx, method, wrapperspb.Bytes([]byte(request)), reply, grpc.Header(&a.headers),
		grpc.Trailer(&a.trailer))
	a.reply = string(reply.GetValue())
	return a
}

func (a answer) code() codes.Code { return status.Code(a.err) }

func patient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func finished(t *testing.T, middle *hostile.Middle, n int) []hostile.Record {
	t.Helper()
	if err := middle.Finished(patient(t), n); err != nil {
		t.Fatal(err)
	}
	return middle.Calls()
}

func wait(t *testing.T, signal <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-signal:
	case <-patient(t).Done():
		t.Fatalf("waited in vain until %s", what)
	}
}

func checkContains(t *testing.T, what, text, part string) {
	t.Helper()
	if !strings.Contains(text, part) {
		t.Errorf("%s is %q, and doesn't contain %q", what, text, part)
	}
}
