package orchestrator

import (
	"context"
	"fmt"
	"net"

	"github.com/spf13/pflag"
)

// WithHealthListener serves the health service, and nothing else, also on another address, "host:port" or "unix:path":
// without TLS, for those who check the health and have no certificate. Default: only with the API.
func WithHealthListener(address string) Option { return func(s *settings) { s.healthListen = address } }

// WithoutReflection leaves out gRPC's server reflection. Clients without generated code, such as grpcurl, and treaty,
// which shows payloads by it, then know no types.
func WithoutReflection() Option { return func(s *settings) { s.grpcServices.noReflection = true } }

// WithChannelz serves gRPC's channelz, by which callers see all connections, also beyond loopback. Default: on loopback
// only.
func WithChannelz() Option { return func(s *settings) { s.grpcServices.channelz = true } }

// grpcServices says which of gRPC's own services are served.
type grpcServices struct {
	noReflection bool
	channelz     bool // beyond loopback, too
}

// healthFlags are the flags of what this file serves.
type healthFlags struct {
	listen     string
	reflection bool
	channelz   bool
}

func (f *healthFlags) register(set *pflag.FlagSet) {
	set.StringVar(&f.listen, "health-listen", "",
		"serve the health service, and nothing else, also on this address, `HOST:PORT` or unix:PATH, without TLS")
	set.BoolVar(&f.reflection, "reflection", true,
		"serve server reflection, by which treaty and grpcurl know the types of payloads")
	set.BoolVar(&f.channelz, "channelz", false,
		"serve channelz, by which callers see all connections, also if the address isn't on loopback")
}

func (f *healthFlags) options() []Option {
	options := []Option{WithHealthListener(f.listen)}
	if !f.reflection {
		options = append(options, WithoutReflection())
	}
	if f.channelz {
		options = append(options, WithChannelz())
	}
	return options
}

// serveHealth serves the health until the returned function is called.
func (o *Orchestrator) serveHealth(ctx context.Context, r *running) (stop func(), err error) {
	if o.settings.healthListen == "" {
		return func() {}, nil
	}
	listener, err := listen(ctx, o.settings.healthListen)
	if err != nil {
		return nil, fmt.Errorf("listening on %s for health checks: %w", o.settings.healthListen, cause(err))
	}
	checked := r.server.NewHealthServer()
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := checked.Serve(listener); err != nil {
			o.logger.Error("health checks are no longer answered", "address", addressFrom(listener), "error", err)
		}
	}()
	o.logger.Info("serving health checks", "address", addressFrom(listener))
	return func() {
		checked.Stop()
		<-served
	}, nil
}

// channelzOn returns whether channelz is served on a listener.
func (s *settings) channelzOn(listener net.Listener) bool {
	return s.grpcServices.channelz || local(listener.Addr())
}
