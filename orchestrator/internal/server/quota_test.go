package server_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"

	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/orchestrator/internal/quota"
)

var limitReached = failure{
	code: codes.ResourceExhausted, reason: treatyv1.ErrorReason_ERROR_REASON_LIMIT_REACHED,
}

var streamStalled = failure{
	code: codes.ResourceExhausted, reason: treatyv1.ErrorReason_ERROR_REASON_STREAM_STALLED,
}

// large returns an event of about a number of bytes.
func large(t *testing.T, id string, bytes int) *treatyv1.PublishedEvent {
	event := verified(t, id, "applicants/1")
	event.Data = pack(t, &identityv1.ApplicantVerified{
		Applicant: "applicants/1", RegisterReference: strings.Repeat("x", bytes),
	})
	return event
}

// TestStalledStreamEnds reads nothing of a stream until the server has ended it. What was sent arrives then, and the
// error says after which event to go on.
func TestStalledStreamEnds(t *testing.T) {
	for name, consumer := range map[string]string{"a reader": "", "a consumer": "mail"} {
		t.Run(name, func(t *testing.T) {
			a := newSecureTestServer(t, security{quota: quota.Limits{Streams: 1, StalledAfter: 100 * time.Millisecond}})
			var want []string
			for i := range 40 {
				id := fmt.Sprint(i)
				want = append(want, id)
				a.publishAll(large(t, id, 10<<10))
			}
			request := &treatyv1.StreamEventsRequest{Consumer: consumer}
			l := a.listen(request)
			a.awaitStream(limitReached)
			var got []string
			var position uint64
			for {
				response, err := l.stream.Recv()
				if err == nil {
					got, position = append(got, response.GetEvent().GetId()), response.GetEvent().GetPosition()
					continue
				}
				if failureOf(t, err) != streamStalled {
					t.Fatalf("the stream ended with %v", err)
				}
				if says := fmt.Sprintf("up to position %d", position); !strings.Contains(err.Error(), says) {
					t.Errorf("%v doesn't say %q", err, says)
				}
				break
			}
			if len(got) == 0 || len(got) == len(want) {
				t.Fatalf("%d of %d events arrived", len(got), len(want))
			}
			if request.AfterPosition = position; consumer != "" {
				request.AfterPosition = 0
				a.acknowledge(consumer, position)
			}
			a.listen(request).expect(strings.Join(want[len(got):], " "))
		})
	}
}

// awaitStream opens streams until one isn't refused any more, and ends that one.
func (a *testServer) awaitStream(refused failure) {
	a.t.Helper()
	whole := a.ctx()
	for n := 0; ; n++ {
		ctx, cancel := context.WithCancel(whole)
		stream, err := a.events.StreamEvents(ctx, &treatyv1.StreamEventsRequest{AfterPosition: 1})
		if err != nil {
			a.t.Fatal(err)
		}
		_, err = stream.Recv()
		cancel()
		if err == nil {
			if n == 0 {
				a.t.Error("the second stream wasn't refused")
			}
			break
		}
		if got := failureOf(a.t, err); got != refused {
			a.t.Fatalf("a stream was refused with %+v (%v), want %+v", got, err, refused)
		}
	}
	a.awaitUsage(func(u quota.Usage) bool { return u.Streams == 0 })
}

// awaitUsage waits until callers hold what is wanted.
func (a *testServer) awaitUsage(wanted func(quota.Usage) bool) {
	a.t.Helper()
	ctx := a.ctx()
	for !wanted(a.server.Usage()) {
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			a.t.Fatalf("callers hold %+v", a.server.Usage())
		}
	}
}

// TestStreamsOfACaller opens more streams of each kind than a caller may have.
func TestStreamsOfACaller(t *testing.T) {
	for name, open := range map[string]func(a *testServer, ctx context.Context) (func() error, error){
		"events": func(a *testServer, ctx context.Context) (func() error, error) {
			stream, err := a.events.StreamEvents(ctx, &treatyv1.StreamEventsRequest{})
			return func() error { _, err := stream.Header(); _, err2 := stream.Recv(); return firstOf(err, err2) }, err
		},
		"a saga": func(a *testServer, ctx context.Context) (func() error, error) {
			stream, err := a.sagas.WatchSaga(ctx, &treatyv1.WatchSagaRequest{Name: "sagas/a"})
			return func() error { _, err := stream.Recv(); return err }, err
		},
		"reflection": func(a *testServer, ctx context.Context) (func() error, error) {
			stream, err := reflectionv1.NewServerReflectionClient(a.conn).ServerReflectionInfo(ctx)
			return func() error {
				err := stream.Send(&reflectionv1.ServerReflectionRequest{
					MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{},
				})
				_, err2 := stream.Recv()
				return firstOf(err2, err)
			}, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newSecureTestServer(t, security{quota: quota.Limits{Streams: 3}})
			a.publishAll(verified(t, "1", "applicants/1"))
			for i := range 4 {
				read, err := open(a, a.ctx())
				if err != nil {
					t.Fatal(err)
				}
				err = read()
				if i < 3 && err != nil {
					t.Fatalf("stream %d: %v", i, err)
				}
				if i == 3 && !isLimitReached(t, err) {
					t.Errorf("stream %d: %v", i, err)
				}
			}
		})
	}
}

func isLimitReached(t *testing.T, err error) bool {
	t.Helper()
	got := failureOf(t, err)
	return got.code == limitReached.code && got.reason == limitReached.reason
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// TestUnreadReplies asks for large replies on a connection that reads none. They wait for room; the replies to others
// don't.
func TestUnreadReplies(t *testing.T) {
	a := newSecureTestServer(t, security{quota: quota.Limits{StalledAfter: 200 * time.Millisecond}})
	a.engine.get = func(id string) (*treatyv1.Saga, error) {
		return &treatyv1.Saga{Name: "sagas/" + id, RequestId: strings.Repeat("x", 1<<20)}, nil
	}
	deaf := testkit.Dial(t, a.conn.Target(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
			return &deafConn{Conn: conn, closed: make(chan struct{})}, err
		}))
	for range 64 {
		go func() {
			_, _ = treatyv1.NewSagaServiceClient(deaf).GetSaga(a.ctx(), &treatyv1.GetSagaRequest{Name: "sagas/a"})
		}()
	}
	a.awaitUsage(func(u quota.Usage) bool { return u.Bytes > 3<<20 })
	for range 10 {
		if _, err := a.sagas.GetSaga(a.ctx(), &treatyv1.GetSagaRequest{Name: "sagas/b"}); err != nil {
			t.Fatal(err)
		}
	}
	if got := a.server.Usage().Bytes; got > 5<<20 {
		t.Errorf("%d bytes are held", got)
	}
	_ = deaf.Close()
	a.awaitUsage(func(u quota.Usage) bool { return u == quota.Usage{} })
}

// deafConn is a connection that reads the first bytes only: the server's settings.
type deafConn struct {
	net.Conn

	closed chan struct{}
	once   sync.Once
	read   int
}

func (d *deafConn) Close() error {
	d.once.Do(func() { close(d.closed) })
	return d.Conn.Close()
}

func (d *deafConn) Read(b []byte) (int, error) {
	if d.read >= 64 {
		<-d.closed
	}
	n, err := d.Conn.Read(b[:min(len(b), 64)])
	d.read += n
	return n, err
}

// TestReplyWithoutRoom asks for large replies and doesn't read them, until there is no room for one more.
func TestReplyWithoutRoom(t *testing.T) {
	a := newSecureTestServer(t, security{quota: quota.Limits{StalledAfter: 50 * time.Millisecond}})
	a.engine.get = func(id string) (*treatyv1.Saga, error) {
		return &treatyv1.Saga{Name: "sagas/" + id, RequestId: strings.Repeat("x", 3<<20)}, nil
	}
	ctx, cancel := context.WithCancel(a.ctx())
	defer cancel()
	get := &treatyv1.GetSagaRequest{Name: "sagas/a"}
	for range 3 {
		stream, err := a.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true},
			treatyv1.SagaService_GetSaga_FullMethodName)
		if err == nil {
			err = stream.SendMsg(get)
		}
		if err == nil {
			err = stream.CloseSend()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	a.awaitUsage(func(u quota.Usage) bool { return u.Bytes > 2<<20 })
	if _, err := a.sagas.GetSaga(ctx, get); !isLimitReached(t, err) {
		t.Errorf("a reply for which there is no room: %v", err)
	}
	cancel() // discards the replies
	a.awaitUsage(func(u quota.Usage) bool { return u == quota.Usage{} })
	if _, err := a.sagas.GetSaga(a.ctx(), get); err != nil {
		t.Errorf("once there is room: %v", err)
	}
}
