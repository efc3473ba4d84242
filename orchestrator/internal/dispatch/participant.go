package dispatch

import (
	"crypto/tls"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/treatyhq/treaty/orchestrator/internal/rawcodec"
)

// Participant is a process, or several behind one name, that serves commands.
type Participant struct {
	// Services are the full names of the services that it is called for, e.g. "acme.customer.v1.CustomerService". The first one is also
	// its name, under which sagas remember that a broadcast was sent to it.
	Services []string

	// Target is where it is: "host:port", or any other target that gRPC's resolvers understand.
	Target string

	// TLS is how it is spoken to. Nil: plaintext.
	TLS *tls.Config

	// Plaintext says whether plaintext may leave this machine. It must be left alone when TLS is set.
	Plaintext Plaintext
}

// Plaintext says how far a connection without TLS may reach.
type Plaintext int

const (
	// PlaintextOnLoopback refuses any target that isn't on this machine. It is the default.
	PlaintextOnLoopback Plaintext = iota

	// PlaintextAnywhere gives up secrecy and integrity: whoever sits on the way reads the commands and can change them.
	PlaintextAnywhere
)

// participant is a participant with its connection.
type participant struct {
	// name is the first service that it is configured for; journals hold it.
	name    string
	target  string
	conn    *grpc.ClientConn
	breaker *breaker
}

const (
	// keepaliveTime is more than the five minutes that gRPC servers ask for by default, so no participant takes the pings
	// amiss. A machine that vanished is noticed sooner: keepaliveTimeout is also how long the kernel waits for sent
	// bytes to be acknowledged (TCP_USER_TIMEOUT).
	keepaliveTime    = 5*time.Minute + 30*time.Second
	keepaliveTimeout = 20 * time.Second

	// reconnectMax is the longest wait between two tries to connect: how late a participant that is back may be noticed.
	reconnectMax = 2 * time.Second

	// connectTimeout bounds one try to connect.
	connectTimeout = 5 * time.Second

	// maxHeaderBytes bounds a participant's headers and trailers, where its failures travel.
	maxHeaderBytes = 1 << 20
)

func dial(p Participant, maxMessageBytes int, more []grpc.DialOption) (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	switch {
	case p.Target == "":
		return nil, fmt.Errorf("dispatch: the participant of %s has no target: write host:port", strings.Join(p.Services, ", "))
	case p.TLS != nil && p.Plaintext == PlaintextAnywhere:
		return nil, fmt.Errorf("dispatch: participant %q has both TLS and leave for plaintext: choose one", p.Target)
	case p.TLS != nil:
		creds = credentials.NewTLS(p.TLS)
	case p.Plaintext == PlaintextOnLoopback && !onLoopback(p.Target):
		return nil, fmt.Errorf("dispatch: participant %q isn't on this machine and has no TLS: configure TLS, or allow plaintext explicitly (insecure)", p.Target)
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
		grpc.WithIdleTimeout(0),
		grpc.WithMaxHeaderListSize(maxHeaderBytes),
		grpc.WithUserAgent("treaty-orchestrator"),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: reconnectMax},
			MinConnectTimeout: connectTimeout,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.WithDefaultCallOptions(
			grpc.ForceCodecV2(rawcodec.New()),
			// The length of a request is checked before the call, where the answer can be a refusal.
			grpc.MaxCallSendMsgSize(math.MaxInt32),
			grpc.MaxCallRecvMsgSize(maxMessageBytes),
		),
	}
	conn, err := grpc.NewClient(p.Target, append(options, more...)...)
	if err != nil {
		return nil, fmt.Errorf("dispatch: participant %q: %w: write host:port, or a target as gRPC's resolvers understand it", p.Target, err)
	}
	return conn, nil
}

// onLoopback returns whether a target can only be reached on this machine. When in doubt, it can't.
func onLoopback(target string) bool {
	endpoint := target
	if u, err := url.Parse(target); err == nil && u.Scheme != "" {
		switch u.Scheme {
		case "unix", "unix-abstract":
			return true
		case "dns", "passthrough":
			// dns:host:port has no slashes; dns://server/host:port asks another name server, which may say anything.
			if u.Host != "" {
				return false
			}
			if endpoint = u.Opaque; endpoint == "" {
				endpoint = strings.TrimPrefix(u.Path, "/")
			}
		}
	}
	host, _, err := net.SplitHostPort(endpoint)
	if err != nil {
		host = strings.Trim(endpoint, "[]")
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}
