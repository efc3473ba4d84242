package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
	"github.com/treatyhq/treaty/cmd/treaty/internal/schema"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

const (
	defaultAddress = "127.0.0.1:7080"
	defaultTimeout = 10 * time.Second

	// maxMessage bounds what is accepted from the orchestrator: a long saga with its payloads may well be larger than
	// gRPC's default of 4 MiB.
	maxMessage = 64 << 20

	// keepaliveTime is just above the five minutes that a gRPC server allows by default.
	keepaliveTime = 5*time.Minute + 10*time.Second
)

// globalFlags are the flags that every command has.
type globalFlags struct {
	address       string
	tls           bool
	tlsCA         string
	tlsCert       string
	tlsKey        string
	tlsServerName string
	insecure      bool
	timeout       time.Duration
	json          bool
	noColor       bool
	actor         string
	set           *pflag.FlagSet

	// certificateAsked says that the orchestrator asked for a client certificate.
	certificateAsked atomic.Bool
}

func (g *globalFlags) register(root *cobra.Command, getenv func(string) string) {
	address := getenv("TREATY_ADDRESS")
	if address == "" {
		address = defaultAddress
	}
	g.set = root.PersistentFlags()
	g.set.StringVar(&g.address, "address", address, "the orchestrator, `HOST:PORT` or unix:PATH (env TREATY_ADDRESS)")
	g.set.BoolVar(&g.tls, "tls", false, "speak TLS and trust the system's authorities; implied by the other --tls flags")
	g.set.StringVar(&g.tlsCA, "tls-ca", "", "trust the certificate authorities in this PEM `FILE`")
	g.set.StringVar(&g.tlsCert, "tls-cert", "", "show this client certificate, a PEM `FILE`; needs --tls-key")
	g.set.StringVar(&g.tlsKey, "tls-key", "", "the client certificate's key, a PEM `FILE`")
	g.set.StringVar(&g.tlsServerName, "tls-server-name", "", "expect this `NAME` in the orchestrator's certificate")
	g.set.BoolVar(&g.insecure, "insecure", false, "speak plaintext to an address that isn't loopback. Gives up secrecy and identity: whoever is on the way can read payloads, change them, and pose as the orchestrator")
	g.set.DurationVar(&g.timeout, "timeout", defaultTimeout, "how long one call may take; watch, wait and start --wait take as long as the saga unless it is given")
	g.set.BoolVar(&g.json, "json", false, "print JSON: one object, or one a line for lists and streams; errors too, on stderr")
	g.set.BoolVar(&g.noColor, "no-color", false, "no colours (env NO_COLOR)")
	g.set.StringVar(&g.actor, "actor", getenv("USER"), "who decides, for the journal; the client certificate wins where there is one (env USER)")
}

// repeated returns the connection flags of this command line, to be shown in a command that the reader may run next.
func (g *globalFlags) repeated() string {
	var out strings.Builder
	for _, name := range []string{"address", "tls", "tls-ca", "tls-cert", "tls-key", "tls-server-name", "insecure"} {
		flag := g.set.Lookup(name)
		if !flag.Changed {
			continue
		}
		out.WriteString(" --" + name)
		if flag.Value.Type() != "bool" {
			out.WriteString(" " + render.ShellQuote(flag.Value.String()))
		}
	}
	return out.String()
}

// client is a connection to an orchestrator.
type client struct {
	conn   *grpc.ClientConn
	sagas  treatyv1.SagaServiceClient
	events treatyv1.EventServiceClient
	schema *schema.Schema
}

// connect returns the connection, which it makes on the first call. It doesn't reach out to the orchestrator yet.
func (a *app) connect(ctx context.Context) (*client, error) {
	if a.client != nil {
		return a.client, nil
	}
	if a.flags.timeout <= 0 {
		return nil, usage("--timeout must be more than 0")
	}
	transport, err := a.flags.credentials()
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(a.flags.address,
		grpc.WithTransportCredentials(transport),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime}),
		grpc.WithUserAgent("treaty-cli/"+a.Build.Version),
	)
	if err != nil {
		return nil, usage("--address "+quote(a.flags.address)+" can't be used: "+err.Error(), "Write it as HOST:PORT or unix:PATH.")
	}
	a.client = &client{
		conn:   conn,
		sagas:  treatyv1.NewSagaServiceClient(conn),
		events: treatyv1.NewEventServiceClient(conn),
		schema: schema.New(ctx, conn, a.flags.timeout),
	}
	return a.client, nil
}

func (a *app) close() {
	if a.client == nil {
		return
	}
	a.client.schema.Close()
	// Nothing can be lost by closing: every call has ended.
	_ = a.client.conn.Close()
}

// unary bounds one call by --timeout.
func (a *app) unary(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, a.flags.timeout)
}

// long bounds a call that lasts as long as a saga: by --timeout only where it was given.
func (a *app) long(ctx context.Context) (context.Context, context.CancelFunc) {
	if a.flags.set.Changed("timeout") {
		return context.WithTimeout(ctx, a.flags.timeout)
	}
	return context.WithCancel(ctx)
}

// credentials decides how the orchestrator is spoken to: TLS where any TLS flag is given, plaintext on loopback or with
// --insecure, and nothing else.
func (g *globalFlags) credentials() (credentials.TransportCredentials, error) {
	local, err := isLocal(g.address)
	if err != nil {
		return nil, err
	}
	wantsTLS := g.tls || g.tlsCA != "" || g.tlsCert != "" || g.tlsKey != "" || g.tlsServerName != ""
	switch {
	case wantsTLS && g.insecure:
		return nil, usage("--insecure and the --tls flags exclude each other")
	case wantsTLS:
		config, err := g.tlsConfig()
		if err != nil {
			return nil, err
		}
		return credentials.NewTLS(config), nil
	case local || g.insecure:
		return insecure.NewCredentials(), nil
	default:
		return nil, usage(g.address+" isn't a loopback address, and plaintext is for loopback only",
			"Give --tls-ca FILE (or --tls to trust the system's authorities), or accept with --insecure that anyone on the way can read and change what is sent.")
	}
}

func (g *globalFlags) tlsConfig() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: g.tlsServerName}
	if g.tlsCA != "" {
		pem, err := os.ReadFile(g.tlsCA)
		if err != nil {
			return nil, usage("--tls-ca can't be read: " + err.Error())
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, usage("--tls-ca " + g.tlsCA + " holds no certificate in PEM form")
		}
	}
	if (g.tlsCert == "") != (g.tlsKey == "") {
		return nil, usage("--tls-cert and --tls-key go together")
	}
	var pair tls.Certificate // none, which is a valid answer
	if g.tlsCert != "" {
		var err error
		if pair, err = tls.LoadX509KeyPair(g.tlsCert, g.tlsKey); err != nil {
			return nil, usage("the client certificate can't be used: "+err.Error(), "See --tls-cert and --tls-key.")
		}
	}
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		g.certificateAsked.Store(true)
		return &pair, nil
	}
	return config, nil
}

// isLocal tells whether an address can't leave this machine.
func isLocal(address string) (bool, error) {
	if strings.HasPrefix(address, "unix:") {
		return true, nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || port == "" || strings.Contains(host, "/") {
		return false, usage("--address "+quote(address)+" isn't an address", "Write it as HOST:PORT (an IPv6 host in brackets) or unix:PATH.")
	}
	if host == "localhost" {
		return true, nil
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback(), nil
}
