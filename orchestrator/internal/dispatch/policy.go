package dispatch

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/endpointsharding"
	"google.golang.org/grpc/balancer/pickfirst"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// policyName is the name of the balancing policy.
const policyName = "treaty_participant"

func init() { //nolint:gochecknoinits // gRPC finds policies by name, and takes no new ones once it is in use.
	balancer.Register(policyBuilder{})
}

// policyBuilder builds the policy of each connection to a participant.
type policyBuilder struct{}

// Name implements balancer.Builder.
func (policyBuilder) Name() string { return policyName }

// Build implements balancer.Builder.
func (policyBuilder) Build(cc balancer.ClientConn, options balancer.BuildOptions) balancer.Balancer {
	p := &policy{cc: cc, options: options, link: new(link)}
	p.link.pace = p.link.defaults()
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.current = p.newPool()
	return p
}

// policy is gRPC's round_robin over all addresses of a participant, with three differences:
//
//   - An address that says NOT_SERVING, by gRPC health checking, gets no commands. One that doesn't serve health
//     checking gets them.
//   - Connections that don't answer are replaced, although they look fine: a middle may have forgotten them and still
//     acknowledge what is sent. New connections are opened beside them, and take over as soon as one works. Calls in
//     flight stay where they are until they end.
//   - When a lookup finds no address, the previous ones stay.
type policy struct {
	cc      balancer.ClientConn
	options balancer.BuildOptions

	// ctx ends when the policy is closed, and with it the goroutines.
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	// top is held while a pool's child is called. It is taken before mu.
	top sync.Mutex

	// mu guards what follows. It isn't held while a pool's child is called, since that calls back.
	mu       sync.Mutex
	link     *link
	resolved balancer.ClientConnState // the last addresses
	closed   bool
	replaced time.Time // when the connections were last to be replaced

	published balancer.State // what gRPC was told last, before it was wrapped

	// current are the connections in use, and next those that are opened beside them, or nil.
	current, next *pool
}

// pool is a set of connections, one to each address. Its child opens them and spreads calls over them.
type pool struct {
	balancer.ClientConn // that of the policy

	policy *policy
	child  balancer.Balancer
}

func (p *policy) newPool() *pool {
	s := &pool{ClientConn: p.cc, policy: p}
	s.child = endpointsharding.NewBalancer(s, p.options, balancer.Get(pickfirst.Name).Build, endpointsharding.Options{})
	return s
}

// NewSubConn implements balancer.ClientConn.
func (s *pool) NewSubConn(addresses []resolver.Address, options balancer.NewSubConnOptions) (balancer.SubConn, error) {
	c := &subConn{policy: s.policy}
	c.contracts = s.policy.contracts()
	c.done = c.callEnded
	listener := options.StateListener
	options.StateListener = func(state balancer.SubConnState) {
		s.policy.noteState(state)
		c.changed(state.ConnectivityState)
		listener(state)
	}
	var err error
	//nolint:staticcheck // Every balancer makes its connections so; there is one address each.
	c.SubConn, err = s.ClientConn.NewSubConn(addresses, options)
	return c, err
}

// noteState takes note of whether a connection works, and why not.
func (p *policy) noteState(state balancer.SubConnState) {
	p.mu.Lock()
	l := p.link
	p.mu.Unlock()
	switch {
	case state.ConnectivityState == connectivity.Ready:
		l.connected()
	case state.ConnectivityState == connectivity.TransientFailure && state.ConnectionError != nil:
		l.failed(state.ConnectionError)
	}
}

// UpdateState implements balancer.ClientConn. The first working connection of the next pool makes it the current one.
func (s *pool) UpdateState(state balancer.State) {
	p := s.policy
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
	case s == p.current:
		p.publish(state)
	case s == p.next && state.ConnectivityState == connectivity.Ready:
		old := p.current
		p.current, p.next = s, nil
		p.publish(state)
		p.link.info("new connections to a participant have replaced those that didn't answer")
		p.running.Go(func() { p.drain(old) })
	case s == p.next && state.ConnectivityState == connectivity.TransientFailure:
		p.next = nil
		p.running.Go(func() { p.drain(s) })
	}
}

// publish tells gRPC of the current pool's state. The caller holds the lock.
func (p *policy) publish(state balancer.State) {
	p.link.ready.Store(state.ConnectivityState == connectivity.Ready)
	p.published = state
	ready := 0
	for _, child := range endpointsharding.ChildStatesFromPicker(state.Picker) {
		if child.State.ConnectivityState == connectivity.Ready {
			ready++
		}
	}
	p.cc.UpdateState(balancer.State{
		ConnectivityState: state.ConnectivityState, Picker: &picker{Picker: state.Picker, ready: ready},
	})
}

// refresh makes calls that wait for an address try again.
func (p *policy) refresh() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed && p.published.Picker != nil {
		p.publish(p.published)
	}
}

// drain closes the connections of a pool when their calls have ended.
func (p *policy) drain(s *pool) {
	p.top.Lock()
	defer p.top.Unlock()
	s.child.Close()
}

// UpdateClientConnState implements balancer.Balancer.
func (p *policy) UpdateClientConnState(state balancer.ClientConnState) error {
	p.top.Lock()
	defer p.top.Unlock()
	p.mu.Lock()
	if l, ok := state.ResolverState.Attributes.Value(linkKey{}).(*link); ok {
		p.link = l
	}
	found := len(state.ResolverState.Endpoints) > 0
	if found {
		p.resolved = state
	}
	current, next := p.current, p.next
	p.mu.Unlock()
	if !found {
		current.child.ResolverError(errors.New("the name has no addresses"))
		return balancer.ErrBadResolverState
	}
	if next != nil {
		_ = next.child.UpdateClientConnState(state) // it takes over if it works
	}
	return current.child.UpdateClientConnState(state)
}

// ResolverError implements balancer.Balancer.
func (p *policy) ResolverError(err error) {
	p.top.Lock()
	defer p.top.Unlock()
	p.mu.Lock()
	l := p.link
	p.mu.Unlock()
	l.failed(err)
	p.using().child.ResolverError(err)
}

// ExitIdle implements balancer.Balancer.
func (p *policy) ExitIdle() {
	p.top.Lock()
	defer p.top.Unlock()
	p.using().child.ExitIdle()
}

func (p *policy) using() *pool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.current
}

// UpdateSubConnState implements balancer.Balancer. gRPC doesn't call it, since all connections have listeners.
func (p *policy) UpdateSubConnState(balancer.SubConn, balancer.SubConnState) {}

// Close implements balancer.Balancer.
func (p *policy) Close() {
	p.top.Lock()
	p.mu.Lock()
	p.closed = true
	current, next := p.current, p.next
	p.mu.Unlock()
	current.child.Close()
	if next != nil {
		next.child.Close()
	}
	p.top.Unlock()
	p.cancel()
	p.running.Wait()
}

// pace returns how soon connections are looked after.
func (p *policy) pace() pace {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.link.pace
}

// streams returns the participant's streams of commands, or nil if it has none.
func (p *policy) streams() *streams {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.link.streams
}

// contracts returns what checks the participant's contracts, or nil if nothing does.
func (p *policy) contracts() *contracts {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.link.contracts
}

// run runs f on a goroutine of the policy, unless the policy is closed.
func (p *policy) run(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.running.Go(f)
	}
}

// replace opens connections beside the current ones. It does nothing if it has done so a moment ago.
func (p *policy) replace() {
	p.top.Lock()
	defer p.top.Unlock()
	p.mu.Lock()
	if p.closed || p.next != nil || !p.replaced.IsZero() && time.Since(p.replaced) < p.link.replace {
		p.mu.Unlock()
		return
	}
	p.replaced = time.Now()
	next, resolved := p.newPool(), p.resolved
	p.next = next
	p.link.info("a connection to a participant doesn't answer; trying new ones beside it")
	p.running.Go(func() {
		if sleep(p.ctx, connectTimeout) {
			p.abandon(next)
		}
	})
	p.mu.Unlock()
	p.cc.ResolveNow(resolver.ResolveNowOptions{})
	_ = next.child.UpdateClientConnState(resolved) // it takes over if it works
}

// abandon closes a pool that has no connection yet.
func (p *policy) abandon(s *pool) {
	p.mu.Lock()
	abandoned := p.next == s
	if abandoned {
		p.next = nil
	}
	p.mu.Unlock()
	if abandoned {
		p.drain(s)
	}
}

// picker picks the connection of each call.
type picker struct {
	balancer.Picker // takes one after the other

	ready int // how many there are
}

// errNotServing is why a command isn't sent.
var errNotServing = errors.New("every address of the participant says NOT_SERVING")

// errOtherContract is why a command isn't sent, if its method wasn't parked in time.
var errOtherContract = errors.New("every address of the participant has another contract of the method")

// Pick implements balancer.Picker. It prefers connections that answer, and takes another one if there is none. Commands
// don't go to addresses that say NOT_SERVING or that have another contract, but questions about the participant itself
// do. Commands wait for an address whose contracts are just being compared.
func (p *picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	var silent, notServing *subConn
	var unchecked, blocked bool
	command := isCommand(info.FullMethodName)
	for range max(p.ready, 1) {
		result, err := p.Picker.Pick(info)
		c, ok := result.SubConn.(*subConn)
		switch {
		case err != nil || !ok:
			return result, err
		case command && c.unchecked():
			unchecked = true
		case command && c.blocks(info.FullMethodName):
			blocked = true
		case c.notServing.Load():
			notServing = c
		case c.silent.Load():
			silent = c
		default:
			return c.picked(), nil
		}
	}
	switch {
	case silent != nil:
		return silent.picked(), nil
	case !command:
		return notServing.picked(), nil
	case unchecked:
		return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
	case blocked && notServing == nil:
		return balancer.PickResult{}, errOtherContract
	default:
		return balancer.PickResult{}, errNotServing
	}
}

// isCommand returns whether a method may be a command's.
func isCommand(path string) bool {
	return !strings.HasPrefix(path, "/grpc.") &&
		!strings.HasPrefix(path, "/"+treatyv1.ParticipantService_ServiceDesc.ServiceName+"/")
}
