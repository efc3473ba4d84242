package dispatch

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/resolver"
)

// names builds resolvers of host names. They look names up as gRPC's own resolver does, but more often. That one waits
// for 30 s between two lookups, and for up to 2 minutes after lookups that failed.
//
// A name is looked up when a connection fails, when a lookup has failed or found nothing, and now and then, since
// addresses may be added while all connections work.
type names struct {
	resolver.Builder // gRPC's

	link *link
}

// Build implements resolver.Builder.
func (n names) Build(
	target resolver.Target, cc resolver.ClientConn, options resolver.BuildOptions,
) (resolver.Resolver, error) {
	found := linkedConn{cc, n.link}
	if isAddress(target.Endpoint()) {
		return n.Builder.Build(target, found, options)
	}
	r := &nameResolver{
		link: n.link, again: make(chan struct{}, 1), cc: found,
		build: func(cc resolver.ClientConn) (resolver.Resolver, error) { return n.Builder.Build(target, cc, options) },
	}
	first, err := r.lookUp()
	if err != nil {
		return nil, err
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.running.Go(func() { r.run(first) })
	return r, nil
}

// isAddress returns whether an endpoint is an IP address, with or without a port.
func isAddress(endpoint string) bool {
	host, _, err := net.SplitHostPort(endpoint)
	if err != nil {
		host = strings.Trim(endpoint, "[]")
	}
	_, err = netip.ParseAddr(host)
	return err == nil
}

// nameResolver resolves one name.
type nameResolver struct {
	link  *link
	build func(resolver.ClientConn) (resolver.Resolver, error)
	cc    resolver.ClientConn

	// again has room for one request to look the name up again.
	again chan struct{}

	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// ResolveNow implements resolver.Resolver.
func (r *nameResolver) ResolveNow(resolver.ResolveNowOptions) {
	select {
	case r.again <- struct{}{}:
	default:
	}
}

// Close implements resolver.Resolver.
func (r *nameResolver) Close() {
	r.cancel()
	r.running.Wait()
}

// run looks the name up until the resolver is closed.
func (r *nameResolver) run(current *lookup) {
	for {
		failed := current.wait(r.ctx)
		current.resolver.Close()
		if !failed && !r.waitForRequest(time.Until(current.start.Add(r.link.refresh))) {
			return
		}
		if !r.waitUntilDue(current.start) {
			return
		}
		for {
			next, err := r.lookUp()
			if err == nil {
				current = next
				break
			}
			r.cc.ReportError(err)
			if !sleep(r.ctx, r.link.lookup) {
				return
			}
		}
	}
}

// waitForRequest waits until the name is to be looked up again, for no longer than limit. It returns false when the
// resolver is closed.
func (r *nameResolver) waitForRequest(limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-r.again:
	case <-timer.C:
	case <-r.ctx.Done():
	}
	return r.ctx.Err() == nil
}

// waitUntilDue waits until the last lookup, which began at start, is long enough ago. A participant without a
// connection needs another lookup sooner. It returns false when the resolver is closed.
func (r *nameResolver) waitUntilDue(start time.Time) bool {
	for {
		since := time.Since(start)
		if since >= r.link.lookupReady || since >= r.link.lookup && !r.link.ready.Load() {
			return r.ctx.Err() == nil
		}
		if !sleep(r.ctx, max(r.link.lookup-since%r.link.lookup, time.Millisecond)) {
			return false
		}
	}
}

// sleep waits for a time. It returns false when ctx ends first.
func sleep(ctx context.Context, delay time.Duration) bool {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// lookup is one lookup of a name, by a resolver that is used for no other.
type lookup struct {
	resolver.ClientConn

	resolver resolver.Resolver
	start    time.Time

	// ended has room for the end of the lookup: nil if it found addresses.
	ended chan error
}

// lookUp begins a lookup.
func (r *nameResolver) lookUp() (*lookup, error) {
	l := &lookup{ClientConn: r.cc, start: time.Now(), ended: make(chan error, 1)}
	var err error
	l.resolver, err = r.build(l)
	return l, err
}

// wait waits until the lookup has ended, and returns whether it failed.
func (l *lookup) wait(ctx context.Context) (failed bool) {
	select {
	case err := <-l.ended:
		return err != nil
	case <-ctx.Done():
		return false
	}
}

// UpdateState implements resolver.ClientConn. It fails if there are no addresses.
func (l *lookup) UpdateState(state resolver.State) error {
	err := l.ClientConn.UpdateState(state)
	l.end(err)
	return err
}

// ReportError implements resolver.ClientConn.
func (l *lookup) ReportError(err error) {
	l.ClientConn.ReportError(err)
	l.end(err)
}

func (l *lookup) end(err error) {
	select {
	case l.ended <- err:
	default:
	}
}
