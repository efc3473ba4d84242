package dispatch

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"

	"github.com/treatyhq/treaty/internal/dialcause"
)

// link is what the resolver and the balancing policy of one participant share.
type link struct {
	pace

	logger *slog.Logger
	target string

	// ready is set while there is a connection.
	ready atomic.Bool

	// failure is why a connection or a lookup of the name failed last, since there was a connection.
	failure atomic.Pointer[string]

	// streams are the streams of commands, or nil if commands are only sent as unary calls.
	streams *streams

	// contracts checks the participant's contracts, or is nil if nothing does.
	contracts *contracts

	starved nowAndThen
}

// connected takes note that there is a connection.
func (l *link) connected() { l.failure.Store(nil) }

// failed takes note of why a connection or a lookup failed.
func (l *link) failed(err error) {
	message := err.Error()
	l.failure.Store(&message)
	if dialcause.Of(message) == dialcause.NoDescriptors && l.logger != nil && l.starved.due(time.Now()) {
		l.logger.Error("this process has used up its file descriptors, so a participant can't be dialled: raise the "+
			"limit of open files (ulimit -n, LimitNOFILE), or find out what holds them; it is dialled again until then",
			"target", l.target, "error", message)
	}
}

// why says why there is no connection, or "" if that isn't known.
func (l *link) why() string {
	message := l.failure.Load()
	if message == nil {
		return ""
	}
	if cause := dialcause.Of(*message); cause != dialcause.Other {
		return "it " + cause.String() + ": " + *message
	}
	return *message
}

// nowAndThen limits a log line to one every warnInterval. The zero value is ready to use.
type nowAndThen struct {
	mu   sync.Mutex
	last time.Time
}

func (n *nowAndThen) due(now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.last.IsZero() && now.Sub(n.last) < warnInterval {
		return false
	}
	n.last = now
	return true
}

// pace is how soon connections are looked after. Tests are faster.
type pace struct {
	// lookup is the shortest time between two lookups of a name while there is no connection.
	lookup time.Duration

	// lookupReady is the same while there is one, to another address of the name.
	lookupReady time.Duration

	// refresh is the longest time between two lookups.
	refresh time.Duration

	// probe is how long a connection has to answer, after a call on it wasn't answered in time.
	probe time.Duration

	// replace is the shortest time between two attempts to replace connections that don't answer.
	replace time.Duration
}

// defaults replaces what isn't set.
func (p pace) defaults() pace {
	for _, d := range []struct {
		value *time.Duration
		usual time.Duration
	}{
		{&p.lookup, time.Second}, {&p.lookupReady, 5 * time.Second}, {&p.refresh, 30 * time.Second},
		{&p.probe, time.Second}, {&p.replace, 5 * time.Second},
	} {
		if *d.value <= 0 {
			*d.value = d.usual
		}
	}
	return p
}

// info logs something about the connections.
func (l *link) info(message string) {
	if l.logger != nil {
		l.logger.Info(message, "target", l.target)
	}
}

// linkKey is the key of the link among a resolver's attributes.
type linkKey struct{}

// options are the options of a connection that spreads its calls over all addresses of the participant.
func (l *link) options() []grpc.DialOption {
	resolvers := []resolver.Builder{names{Builder: resolver.Get("dns"), link: l}}
	for _, scheme := range []string{"passthrough", "unix", "unix-abstract"} {
		if builder := resolver.Get(scheme); builder != nil {
			resolvers = append(resolvers, linked{Builder: builder, link: l})
		}
	}
	return []grpc.DialOption{
		grpc.WithResolvers(resolvers...),
		grpc.WithDisableServiceConfig(), // of the name's TXT record
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"` + policyName + `": {}}]}`),
	}
}

// linked builds resolvers that hand the link to the balancing policy.
type linked struct {
	resolver.Builder

	link *link
}

// Build implements resolver.Builder.
func (b linked) Build(
	target resolver.Target, cc resolver.ClientConn, options resolver.BuildOptions,
) (resolver.Resolver, error) {
	return b.Builder.Build(target, linkedConn{cc, b.link}, options)
}

// linkedConn adds the link to what a resolver finds.
type linkedConn struct {
	resolver.ClientConn

	link *link
}

// UpdateState implements resolver.ClientConn.
func (c linkedConn) UpdateState(state resolver.State) error {
	state.Attributes = state.Attributes.WithValue(linkKey{}, c.link)
	return c.ClientConn.UpdateState(state)
}
