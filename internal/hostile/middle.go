package hostile

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

const (
	defaultDialTimeout = 5 * time.Second
	defaultKeep        = 10_000

	// handshakeTimeout is how long a client may take for its first bytes.
	handshakeTimeout = 10 * time.Second
)

// Options configure a [Middle]. The zero Options are fine.
type Options struct {
	// Address is where the middle listens, e.g. "127.0.0.1:7001". Default: a free port of the loopback interface.
	Address string

	// DialTimeout is how long the upstream may take to accept a connection and to send its first frame. Default 5 s.
	DialTimeout time.Duration

	// Keep is how many records are kept, those of the newest calls. Default 10,000.
	Keep int

	// Alone accepts clients while the upstream is down, as a proxy does, so that the middle can answer in its name. A
	// call that must go up closes the client's connection then. Without it, the client's connection is closed at once,
	// as if there were no middle.
	Alone bool
}

// Middle stands between clients and one upstream. Its methods are safe for concurrent use.
type Middle struct {
	upstream string
	options  Options
	listener net.Listener
	log      *log
	ctx      context.Context
	cancel   func()

	// running are all goroutines of the middle.
	running sync.WaitGroup

	programMu   sync.Mutex
	program     Program
	calls       int
	perMethod   map[string]int
	connections int

	spareMu sync.Mutex
	spare   []*link
}

// Listen starts a middle in front of an upstream, an address such as "127.0.0.1:7000". It passes everything on until it
// gets a program. The upstream needn't run yet. Close the middle to end it.
func Listen(upstream string, options Options) (*Middle, error) {
	if options.Address == "" {
		options.Address = "127.0.0.1:0"
	}
	if options.DialTimeout <= 0 {
		options.DialTimeout = defaultDialTimeout
	}
	if options.Keep <= 0 {
		options.Keep = defaultKeep
	}
	listener, err := net.Listen("tcp", options.Address)
	if err != nil {
		return nil, fmt.Errorf("start a middle in front of %s: %w", upstream, err)
	}
	m := &Middle{upstream: upstream, options: options, listener: listener, log: newLog(options.Keep),
		perMethod: make(map[string]int)}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.running.Go(m.accept)
	return m, nil
}

// Addr returns the address that clients connect to, e.g. "127.0.0.1:40123".
func (m *Middle) Addr() string { return m.listener.Addr().String() }

// Program makes the middle follow a program from the next call on. Nil passes everything on.
func (m *Middle) Program(program Program) {
	m.programMu.Lock()
	defer m.programMu.Unlock()
	m.program = program
}

// Close closes the listener and every connection, and returns when all goroutines of the middle have ended. Requests
// that are held back never go up.
func (m *Middle) Close() {
	_ = m.listener.Close()
	m.cancel()
	m.running.Wait()
}

func (m *Middle) accept() {
	for {
		raw, err := m.listener.Accept()
		if err != nil {
			return
		}
		m.running.Go(func() { m.serve(raw) })
	}
}

// healthPrefix is how the methods of gRPC health checking start.
const healthPrefix = "/grpc.health.v1.Health/"

// plan asks the program about a call, and starts its record.
func (m *Middle) plan(call Call) (Plan, *Record) {
	if strings.HasPrefix(call.Method, healthPrefix) {
		return Plan{}, &Record{Call: call, Deliveries: make([]Delivered, 1), unlisted: true}
	}
	m.programMu.Lock()
	defer m.programMu.Unlock()
	m.calls++
	m.perMethod[call.Method]++
	call.Number, call.PerMethod = m.calls, m.perMethod[call.Method]
	var plan Plan
	if m.program != nil {
		plan = m.program(&call)
	}
	return plan, m.log.add(call, plan)
}

// pause waits for a channel and then for a time. It returns false if ctx ends first.
func pause(ctx context.Context, until <-chan struct{}, delay time.Duration) bool {
	if until != nil {
		select {
		case <-until:
		case <-ctx.Done():
			return false
		}
	}
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return false
		}
	}
	return ctx.Err() == nil
}
