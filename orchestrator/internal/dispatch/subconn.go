package dispatch

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/treatyhq/treaty/orchestrator/internal/commandstream"
)

// initialWatchDelay and maxWatchDelay bound the wait before an address is asked for its health again after that failed.
// The wait doubles with each failure.
const (
	initialWatchDelay = 5 * time.Second
	maxWatchDelay     = time.Minute
)

// subConn is the connection to one address. It watches whether the address serves, and finds out whether the connection
// answers when calls don't.
type subConn struct {
	balancer.SubConn

	policy *policy
	done   func(balancer.DoneInfo) // callEnded, made once for all calls

	// notServing is set while the address says NOT_SERVING.
	notServing atomic.Bool

	// silent is set while calls aren't answered, nor anything else.
	silent atomic.Bool

	// probing is set while a goroutine finds out whether the connection answers.
	probing atomic.Bool

	// stream is the stream of commands on the connection, while it takes commands.
	stream atomic.Pointer[commandstream.Stream]

	addressContracts

	mu sync.Mutex

	// ctx ends with the connection. It is nil while there is none.
	ctx    context.Context
	cancel context.CancelFunc
}

// picked is what a picker returns for the connection. gRPC needs its own value.
func (c *subConn) picked() balancer.PickResult {
	return balancer.PickResult{SubConn: c.SubConn, Done: c.done}
}

// changed takes note of a new state.
func (c *subConn) changed(state connectivity.State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	streams := c.policy.streams()
	if c.cancel != nil {
		c.cancel()
		c.loseContracts(c.ctx)
		c.ctx, c.cancel = nil, nil
		if streams != nil {
			streams.remove(c)
		}
	}
	c.notServing.Store(false)
	c.silent.Store(false)
	if state == connectivity.Ready {
		ctx, cancel := context.WithCancel(c.policy.ctx)
		c.ctx, c.cancel = ctx, cancel
		c.policy.run(func() { c.watch(ctx) })
		tried := make(chan struct{})
		if streams != nil {
			streams.add(c)
			c.policy.run(func() { c.keepStream(ctx, streams, sync.OnceFunc(func() { close(tried) })) })
		}
		if c.contracts != nil {
			c.policy.run(func() {
				if streams.wants() {
					await(ctx, tried)
				}
				c.checkContracts(ctx)
			})
		}
	}
}

// callEnded takes note of the end of a call. A call that got nothing back in its time says that the participant is
// slow, or that the connection is broken and looks fine. The difference is whether the connection answers anything.
func (c *subConn) callEnded(info balancer.DoneInfo) {
	switch {
	case info.BytesReceived:
		if c.silent.Load() {
			c.silent.Store(false)
		}
	case info.BytesSent && status.Code(info.Err) == codes.DeadlineExceeded && c.probing.CompareAndSwap(false, true):
		c.policy.run(c.probe)
	}
}

// probe replaces the connection if it doesn't answer. It ends when the connection answers or is gone.
func (c *subConn) probe() {
	defer c.probing.Store(false)
	c.mu.Lock()
	ctx := c.ctx
	c.mu.Unlock()
	if ctx == nil {
		return
	}
	pace := c.policy.pace()
	for {
		answers := c.answers(ctx, pace.probe)
		if ctx.Err() != nil {
			return
		}
		c.silent.Store(!answers)
		if answers {
			return
		}
		c.policy.replace()
		if !sleep(ctx, pace.replace) {
			return
		}
	}
}

// answers returns whether anything comes back within a time. Any answer will do, also that health checking isn't
// served.
func (c *subConn) answers(ctx context.Context, within time.Duration) bool {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	_ = c.withConn(func(conn grpc.ClientConnInterface) error {
		_, err := healthgrpc.NewHealthClient(conn).Check(ctx, new(healthgrpc.HealthCheckRequest))
		return err
	})
	return time.Since(start) < within // ctx may end a little later
}

// watch watches the health of the address until ctx ends.
func (c *subConn) watch(ctx context.Context) {
	delay := initialWatchDelay
	for {
		told, err := c.watchOnce(ctx)
		switch {
		case told:
			delay = initialWatchDelay
		case status.Code(err) == codes.Unimplemented:
			return
		default:
			c.notServing.Store(false) // nobody says so
		}
		if !sleep(ctx, delay) {
			return
		}
		delay = min(2*delay, maxWatchDelay)
	}
}

// watchOnce watches until the stream ends. told says that the address has told its health.
func (c *subConn) watchOnce(ctx context.Context) (told bool, err error) {
	err = c.withConn(func(conn grpc.ClientConnInterface) error {
		stream, err := healthgrpc.NewHealthClient(conn).Watch(ctx, new(healthgrpc.HealthCheckRequest))
		if err != nil {
			return err
		}
		for {
			response, err := stream.Recv()
			if err != nil {
				return err
			}
			told = true
			c.notServing.Store(response.GetStatus() == healthgrpc.HealthCheckResponse_NOT_SERVING)
		}
	})
	return told, err
}

// withConn calls f with what makes calls on this very connection.
func (c *subConn) withConn(f func(grpc.ClientConnInterface) error) error {
	conn, release := c.SubConn.GetOrBuildProducer(connBuilder{})
	defer release()
	return f(conn.(grpc.ClientConnInterface)) //nolint:forcetypeassert // connBuilder returns what gRPC says it gets.
}

// connBuilder returns the connection itself as what is produced on it.
type connBuilder struct{}

// Build implements balancer.ProducerBuilder.
func (connBuilder) Build(conn any) (balancer.Producer, func()) { return conn, func() {} }
