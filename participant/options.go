package participant

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/treatyhq/treaty/internal/heapfloor"
	"github.com/treatyhq/treaty/internal/tlsfiles"
)

// Defaults of [Options].
const (
	DefaultListen               = "127.0.0.1:0"
	DefaultMaxMessageBytes      = 4 << 20
	DefaultMaxConcurrentStreams = 1024
	DefaultStopTimeout          = 10 * time.Second
	DefaultHeapFloor            = heapfloor.Default
)

// Options configure a server made by [NewServer]. The zero value listens on a free port of the loopback interface, in
// plaintext.
type Options struct {
	// Name is the service's name in logs, for example "customer".
	Name string

	// Listen is the address to listen on, "host:port". Plaintext is only allowed on loopback addresses unless Insecure
	// is set. Default DefaultListen.
	Listen string

	// TLSCertFile and TLSKeyFile hold the server's certificate chain and private key in PEM. Set both or neither. They
	// are reloaded when they change.
	TLSCertFile, TLSKeyFile string

	// TLSClientCAFile holds in PEM the authorities that issue client certificates. If it is set, a client must present
	// such a certificate. It is reloaded when it changes.
	TLSClientCAFile string

	// Insecure allows plaintext on an address that other machines can reach. Anybody on the network can then read,
	// change and send commands.
	Insecure bool

	// Orchestrators are the identities of the orchestrators whose commands are believed, see [Believe]. They need
	// TLSClientCAFile, unless AnyCaller is among them. By default it is every caller with a client certificate of
	// TLSClientCAFile; every caller if Insecure is set; and otherwise the callers on this machine. Commands of others
	// are answered with UNAUTHENTICATED and not executed.
	Orchestrators []string

	// Keepers are the service's inboxes. The server then serves what orchestrators may ask about the commands in them,
	// treaty.v1.ParticipantService, so that a command of unknown outcome is resolved without a person.
	Keepers []Keeper

	// Interceptors run for every unary call and for every command of a stream, in this order, inside those of this
	// package.
	Interceptors []grpc.UnaryServerInterceptor

	// CommandStream says whether orchestrators may send commands in batches over a stream, which costs a fraction of a
	// call for each. Handlers see no difference. Default CommandStreamAuto.
	CommandStream CommandStream

	// MaxMessageBytes is the size of the largest request and of the largest reply. The request of a compensation
	// contains both, so requests of twice the size, and a little more, are accepted. Replies to commands never have
	// more than the default, which is what orchestrators receive; see [UnaryServerInterceptor]. Default
	// DefaultMaxMessageBytes.
	MaxMessageBytes int

	// MaxConcurrentStreams is how many calls of one connection may be in flight. Default DefaultMaxConcurrentStreams.
	MaxConcurrentStreams uint32

	// StopTimeout is how long calls in flight may take to finish when the server stops. Default DefaultStopTimeout.
	StopTimeout time.Duration

	// HeapFloor is how many bytes are allocated between two garbage collections, at least, while the server serves. Go
	// would otherwise collect a small heap many times a second under load. The heap grows by up to this much. It is a
	// setting of the whole process: of several servers in one process, the highest counts. It has no effect if the
	// program configures its garbage collector: with GOGC or GOMEMLIMIT in the environment, or with debug.SetGCPercent
	// or debug.SetMemoryLimit. A negative number is no floor. Default DefaultHeapFloor.
	HeapFloor int64

	// Logger receives the server's log, with the attributes of [LogHandler] in records about calls. Default
	// slog.Default.
	Logger *slog.Logger
}

func (o *Options) setDefaults() {
	if o.Listen == "" {
		o.Listen = DefaultListen
	}
	if o.MaxMessageBytes <= 0 {
		o.MaxMessageBytes = DefaultMaxMessageBytes
	}
	if o.MaxConcurrentStreams == 0 {
		o.MaxConcurrentStreams = DefaultMaxConcurrentStreams
	}
	if o.StopTimeout <= 0 {
		o.StopTimeout = DefaultStopTimeout
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	o.Logger = slog.New(LogHandler(o.Logger.Handler()))
	if o.Name != "" {
		o.Logger = o.Logger.With("service", o.Name)
	}
}

// maxRequestBytes is the size of the largest request, which is that of a compensation.
func (o *Options) maxRequestBytes() int {
	const around = 64 << 10
	return int(min(2*int64(o.MaxMessageBytes)+around, math.MaxInt32))
}

// trust returns whose commands are believed.
func (o *Options) trust() Trust {
	if len(o.Orchestrators) == 0 && o.Insecure {
		return Believe(AnyCaller)
	}
	return Believe(o.Orchestrators...)
}

// ErrPlaintext is returned by [NewServer] if the options would allow plaintext on an address that is not loopback.
var ErrPlaintext = errors.New("plaintext is allowed on loopback addresses only")

// checkTransport refuses options that would make the server less secure than the operator expects.
func (o *Options) checkTransport() error {
	host, _, err := net.SplitHostPort(o.Listen)
	if err != nil {
		return fmt.Errorf("listening on %q: %w; want host:port, e.g. 127.0.0.1:7101", o.Listen, err)
	}
	switch {
	case (o.TLSCertFile == "") != (o.TLSKeyFile == ""):
		return errors.New("TLSCertFile and TLSKeyFile belong together: set both or neither")
	case len(o.Orchestrators) > 0 && o.TLSClientCAFile == "" && !slices.Contains(o.Orchestrators, AnyCaller):
		return errors.New("the option Orchestrators requires TLSClientCAFile: a caller needs a certificate to be known")
	case slices.Contains(o.Orchestrators, ""):
		return errors.New("one of the Orchestrators is empty: want a URI such as a SPIFFE id, or a DNS name")
	case o.TLSCertFile != "" && o.Insecure:
		return errors.New("options Insecure and TLSCertFile contradict each other: set only one of them")
	case o.TLSCertFile != "":
		return nil
	case o.TLSClientCAFile != "":
		return errors.New("TLSClientCAFile requires TLSCertFile and TLSKeyFile")
	case o.Insecure || isLoopback(host):
		return nil
	}
	return fmt.Errorf("listening on %s: %w: configure a TLS certificate and key, or allow insecure transport, "+
		"which lets anybody on the network read, change and send commands", o.Listen, ErrPlaintext)
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

// credentials returns the server's transport credentials.
func (o *Options) credentials() (credentials.TransportCredentials, error) {
	if o.TLSCertFile == "" {
		return insecure.NewCredentials(), nil
	}
	config, err := tlsfiles.Server(tlsfiles.ServerParams{
		Cert: o.TLSCertFile, Key: o.TLSKeyFile, ClientCA: o.TLSClientCAFile, Logger: o.Logger,
	})
	if err != nil {
		return nil, err
	}
	return credentials.NewTLS(config), nil
}
