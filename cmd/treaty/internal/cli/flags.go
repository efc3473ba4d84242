package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/treatyhq/treaty/cmd/treaty/internal/connection"
	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
)

const (
	defaultAddress = "127.0.0.1:7080"
	defaultTimeout = 10 * time.Second
)

// globalFlags are the flags that every command has.
type globalFlags struct {
	connection connection.Options
	json       bool
	noColor    bool
	actor      string
	set        *pflag.FlagSet
}

func (g *globalFlags) register(root *cobra.Command, getenv func(string) string) {
	address := getenv("TREATY_ADDRESS")
	if address == "" {
		address = defaultAddress
	}
	g.set = root.PersistentFlags()
	g.set.StringVar(&g.connection.Address, "address", address, "the orchestrator, `HOST:PORT` or unix:PATH (env TREATY_ADDRESS)")
	g.set.BoolVar(&g.connection.TLS, "tls", false, "speak TLS and trust the system's authorities; implied by the other --tls flags")
	g.set.StringVar(&g.connection.CAFile, "tls-ca", "", "trust the certificate authorities in this PEM `FILE`")
	g.set.StringVar(&g.connection.CertFile, "tls-cert", "", "show this client certificate, a PEM `FILE`; needs --tls-key")
	g.set.StringVar(&g.connection.KeyFile, "tls-key", "", "the client certificate's key, a PEM `FILE`")
	g.set.StringVar(&g.connection.ServerName, "tls-server-name", "", "expect this `NAME` in the orchestrator's certificate")
	g.set.BoolVar(&g.connection.Insecure, "insecure", false, "speak plaintext to an address that isn't loopback. Gives up secrecy and identity: whoever is on the way can read payloads, change them, and pose as the orchestrator")
	g.set.DurationVar(&g.connection.Timeout, "timeout", defaultTimeout, "how long one call may take; watch, wait and start --wait take as long as the saga unless it is given")
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

// connect returns the connection, which it makes on the first call. It doesn't reach out to the orchestrator yet.
func (a *app) connect(ctx context.Context) (*connection.Client, error) {
	if a.client != nil {
		return a.client, nil
	}
	options := a.flags.connection
	options.Version = a.Build.Version
	client, err := connection.New(ctx, options)
	if err != nil {
		return nil, err
	}
	a.client = client
	return client, nil
}

// unary bounds one call by --timeout.
func (a *app) unary(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, a.flags.connection.Timeout)
}

// long bounds a call that lasts as long as a saga: by --timeout only where it was given.
func (a *app) long(ctx context.Context) (context.Context, context.CancelFunc) {
	if a.flags.set.Changed("timeout") {
		return context.WithTimeout(ctx, a.flags.connection.Timeout)
	}
	return context.WithCancel(ctx)
}
