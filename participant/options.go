package participant

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"
)

// Defaults of Options.
const (
	DefaultListen               = "127.0.0.1:0"
	DefaultMaxMessageBytes      = 4 << 20
	DefaultMaxConcurrentStreams = 1024
	DefaultStopTimeout          = 10 * time.Second
)

// Options says how a participant's server is set up. The zero value listens on a free port of the loopback interface, in
// plaintext.
type Options struct {
	// Name is the service's name in logs, e.g. "customer".
	Name string

	// Listen is the address to listen on, "host:port". Plaintext is allowed on loopback addresses only, unless Insecure is
	// set. Default DefaultListen.
	Listen string

	// TLSCertFile and TLSKeyFile hold the server's certificate chain and private key in PEM. Both or neither. They are read
	// again when they change.
	TLSCertFile, TLSKeyFile string

	// TLSClientCAFile holds in PEM the authorities that clients' certificates must come from. When it is set, a client
	// without such a certificate is turned away. It is read again when it changes.
	TLSClientCAFile string

	// Insecure allows plaintext on an address that others can reach: anybody on the way can read and change what is sent, and
	// anybody who can reach it can send commands.
	Insecure bool

	// MaxMessageBytes is the largest request taken and the largest reply sent. Default DefaultMaxMessageBytes.
	MaxMessageBytes int

	// MaxConcurrentStreams is how many calls one connection may have under way. Default DefaultMaxConcurrentStreams.
	MaxConcurrentStreams uint32

	// StopTimeout is how long calls under way may take to end after the server is told to stop. Default DefaultStopTimeout.
	StopTimeout time.Duration

	// Logger takes the server's log, with trace and saga ids in the records about calls. Default: slog.Default.
	Logger *slog.Logger
}

// AddFlags defines the flags --listen, --tls-cert, --tls-key, --tls-client-ca, --insecure and --stop-timeout. The options'
// present values are the flags' defaults.
func (o *Options) AddFlags(flags *flag.FlagSet) {
	if o.Listen == "" {
		o.Listen = DefaultListen
	}
	if o.StopTimeout == 0 {
		o.StopTimeout = DefaultStopTimeout
	}
	flags.StringVar(&o.Listen, "listen", o.Listen, "`host:port` to listen on; port 0 takes a free one")
	flags.StringVar(&o.TLSCertFile, "tls-cert", o.TLSCertFile, "`file` with the server's certificate chain (PEM)")
	flags.StringVar(&o.TLSKeyFile, "tls-key", o.TLSKeyFile, "`file` with the server's private key (PEM)")
	flags.StringVar(&o.TLSClientCAFile, "tls-client-ca", o.TLSClientCAFile, "`file` with the authorities of clients' certificates (PEM); turns on mTLS")
	flags.BoolVar(&o.Insecure, "insecure", o.Insecure, "allow plaintext beyond loopback: anybody on the way can read, change and send commands")
	flags.DurationVar(&o.StopTimeout, "stop-timeout", o.StopTimeout, "how long calls under way may take to end on SIGTERM")
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

// ErrPlaintext is the error of NewServer when plaintext would be spoken where others can listen.
var ErrPlaintext = errors.New("plaintext is allowed on loopback addresses only")

// checkTransport refuses settings under which the server would be less secure than its operator thinks.
func (o *Options) checkTransport() error {
	host, _, err := net.SplitHostPort(o.Listen)
	if err != nil {
		return fmt.Errorf("--listen %q: %w; want host:port, e.g. 127.0.0.1:7101", o.Listen, err)
	}
	switch {
	case (o.TLSCertFile == "") != (o.TLSKeyFile == ""):
		return errors.New("--tls-cert and --tls-key belong together: give both or neither")
	case o.TLSCertFile != "" && o.Insecure:
		return errors.New("--insecure and --tls-cert contradict each other: give one of them")
	case o.TLSCertFile != "":
		return nil
	case o.TLSClientCAFile != "":
		return errors.New("--tls-client-ca needs --tls-cert and --tls-key")
	case o.Insecure || isLoopback(host):
		return nil
	}
	return fmt.Errorf("listening on %s: %w: give --tls-cert and --tls-key, or --insecure to let anybody read, change and send commands", o.Listen, ErrPlaintext)
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}
