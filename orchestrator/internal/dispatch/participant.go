package dispatch

import (
	"crypto/tls"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"

	"github.com/treatyhq/treaty/orchestrator/internal/admission"
	"github.com/treatyhq/treaty/orchestrator/internal/rawcodec"
)

// Participant is a process that serves commands, or several processes with one name.
type Participant struct {
	// Services are the full names of the services for which it is called, such as "acme.customer.v1.CustomerService".
	// The first is also the participant's name, which a saga records when it sends a broadcast to the participant.
	Services []string

	// Broadcasts are the full names of the services in whose broadcasts it takes part. Several participants may take
	// part in the same ones.
	Broadcasts []string

	// Target is its address: "host:port", or any other gRPC target. Commands are spread over all addresses of a name.
	Target string

	// TLS configures the connection. Nil means plaintext.
	TLS *tls.Config

	// Plaintext says where plaintext is allowed. It must not be set when TLS is.
	Plaintext Plaintext

	// Answers says what may be believed of its answers. Default AnswersAuto.
	Answers Answers

	// MaxInFlight is how many commands may be in flight to it at most. Default admission.DefaultCeiling.
	MaxInFlight int

	// MaxPerSecond is how many commands may be sent to it per second at most. 0 means no limit.
	MaxPerSecond float64

	// Unary says that commands are only sent as unary calls, not on a stream, even if the participant serves one.
	Unary bool

	// Contracts says what is done about its contracts. Default ContractsChecked.
	Contracts ContractCheck

	// DialOptions are added to those of its connection. They can't change what the dispatcher sets itself.
	DialOptions []grpc.DialOption
}

// Plaintext says where a connection without TLS may go.
type Plaintext int

const (
	// PlaintextOnLoopback allows targets on this machine only. It is the default.
	PlaintextOnLoopback Plaintext = iota

	// PlaintextAnywhere allows every target. Anybody on the network path can read and change the commands.
	PlaintextAnywhere
)

// participant is a participant with its connection.
type participant struct {
	*credit
	*introduction

	// name is the first of its services. Journals hold it.
	name    string
	target  string
	conn    *grpc.ClientConn
	breaker *breaker
	streams *streams // nil if commands are only sent as unary calls

	contracts *contracts // nil if they aren't checked

	admission *admission.Controller

	// silence is about the calls of all methods, and methods maps the name of each one that was called to its *method.
	silence     silence
	silentAfter time.Duration
	methods     sync.Map
}

// hold returns false when a command may be sent to the participant now, apart from its limits. Otherwise it returns
// true, and wake is called when that may have changed.
func (p *participant) hold(wake func()) bool {
	if _, waiting := p.introduction.wait(wake); waiting {
		return true
	}
	if p.contracts.wait(wake) {
		return true
	}
	_, waiting := p.breaker.wait(wake)
	return waiting
}

// park parks the methods that have a reason, and resumes all others.
func (p *participant) park(reasons map[string]string) {
	p.methods.Range(func(_, value any) bool {
		m := value.(*method) //nolint:forcetypeassert // The map has no other values.
		p.parkMethod(m, reasons[m.name])
		return true
	})
}

// parkMethod parks a method, or resumes it if there is no reason.
func (p *participant) parkMethod(m *method, reason string) {
	switch {
	case reason != "":
		m.parked.Store(&reason)
		p.admission.Park(m.limits)
	case m.parked.Swap(nil) != nil:
		p.admission.Resume(m.limits)
	}
}

const (
	// keepaliveTime is longer than the five minutes that gRPC servers require between pings by default. A machine
	// that disappears is noticed sooner, since keepaliveTimeout is also how long the kernel waits for sent bytes to
	// be acknowledged (TCP_USER_TIMEOUT), and since connections whose calls aren't answered are looked after.
	keepaliveTime    = 5*time.Minute + 30*time.Second
	keepaliveTimeout = 20 * time.Second

	// maxReconnectDelay is the longest wait between two attempts to connect, and so the longest time for which a
	// participant that is back can go unnoticed.
	maxReconnectDelay = 2 * time.Second

	// connectTimeout limits one attempt to connect.
	connectTimeout = 5 * time.Second

	// maxHeaderBytes limits the headers and trailers of a participant, which carry its failures.
	maxHeaderBytes = 1 << 20
)

func dial(p Participant, l *link, maxMessageBytes int, more []grpc.DialOption) (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	switch {
	case p.Target == "":
		return nil, fmt.Errorf("dispatch: the participant of %s has no target: write host:port",
			strings.Join(p.Services, ", "))
	case p.TLS != nil && p.Plaintext == PlaintextAnywhere:
		return nil, fmt.Errorf("dispatch: participant %q has both TLS and plaintext: choose one", p.Target)
	case p.TLS != nil:
		creds = credentials.NewTLS(p.TLS)
	case p.Plaintext == PlaintextOnLoopback && !onLoopback(p.Target):
		return nil, fmt.Errorf("dispatch: participant %q isn't on this machine and has no TLS: "+
			"configure TLS, or allow plaintext explicitly (insecure)", p.Target)
	}
	options := append(slices.Concat(p.DialOptions, l.options()),
		grpc.WithTransportCredentials(creds),
		grpc.WithDisableRetry(),
		grpc.WithStatsHandler(transportWatcher{}),
		grpc.WithIdleTimeout(0),
		grpc.WithMaxHeaderListSize(maxHeaderBytes),
		grpc.WithUserAgent("treaty-orchestrator"),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: maxReconnectDelay,
			},
			MinConnectTimeout: connectTimeout,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.WithDefaultCallOptions(
			grpc.ForceCodecV2(rawcodec.New()),
			// Attempt checks the size of a request before the call, so that it can count as a refusal.
			grpc.MaxCallSendMsgSize(math.MaxInt32),
			grpc.MaxCallRecvMsgSize(maxMessageBytes),
		),
	)
	conn, err := grpc.NewClient(p.Target, append(options, more...)...)
	if err != nil {
		return nil, fmt.Errorf("dispatch: participant %q: %w: write host:port, or another gRPC target", p.Target, err)
	}
	return conn, nil
}

// CheckTarget returns an error for a target without a port: gRPC would take that of HTTPS. The error says what to write
// instead.
func CheckTarget(target string) error {
	_, endpoint, isAddress := addressOf(target)
	if !isAddress {
		return nil
	}
	if _, port, err := net.SplitHostPort(endpoint); err == nil && port != "" {
		return nil
	}
	host := strings.Trim(strings.TrimSuffix(endpoint, ":"), "[]")
	return fmt.Errorf("%q has no port: write host:port, such as %s", target, net.JoinHostPort(host, "7101"))
}

// addressOf returns the part of a target that is an address, "host:port", and who looks up its host: another name
// server, or "". It returns false if a target isn't an address, such as a Unix socket.
func addressOf(target string) (nameServer, address string, ok bool) {
	u, err := url.Parse(target)
	if err != nil || resolver.Get(u.Scheme) == nil {
		return "", target, !strings.Contains(target, "://")
	}
	switch u.Scheme {
	case "dns", "passthrough":
		// dns:host:port has no slashes; dns://server/host:port asks another name server.
		if address = u.Opaque; address == "" {
			address = strings.TrimPrefix(u.Path, "/")
		}
		return u.Host, address, true
	default:
		return "", "", false
	}
}

// onLoopback returns whether a target is certainly on this machine.
func onLoopback(target string) bool {
	if u, err := url.Parse(target); err == nil && (u.Scheme == "unix" || u.Scheme == "unix-abstract") {
		return true
	}
	nameServer, endpoint, ok := addressOf(target)
	if !ok || nameServer != "" { // another name server can't be trusted
		return false
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
