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

// globalFlags are the flags of every command.
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
	g.set.StringVar(&g.connection.Address, "address", address,
		"the orchestrator, `HOST:PORT` or unix:PATH (env TREATY_ADDRESS)")
	g.set.BoolVar(&g.connection.TLS, "tls", false,
		"use TLS and trust the system's certificate authorities; implied by the other --tls flags")
	g.set.StringVar(&g.connection.CAFile, "tls-ca", "", "trust the certificate authorities in this PEM `FILE`")
	g.set.StringVar(&g.connection.CertFile, "tls-cert", "", "the client certificate, a PEM `FILE`; needs --tls-key")
	g.set.StringVar(&g.connection.KeyFile, "tls-key", "", "the client certificate's key, a PEM `FILE`")
	g.set.StringVar(&g.connection.ServerName, "tls-server-name", "",
		"expect this `NAME` in the orchestrator's certificate")
	g.set.StringVar(&g.connection.TokenFile, "token-file", "",
		"send the token in this `FILE` with each call, over TLS or to this machine; it is read for each call")
	g.set.BoolVar(&g.connection.Insecure, "insecure", false,
		"allow plaintext to an address that isn't loopback; anyone on the network path can then read and change\n"+
			"payloads, and pose as the orchestrator")
	g.set.DurationVar(&g.connection.Timeout, "timeout", defaultTimeout,
		"how long one call may take; watch, wait, events and start --wait have no limit unless you set one")
	g.set.BoolVar(&g.json, "json", false,
		"print JSON: one object, or one per line for lists and streams; errors too, on stderr")
	g.set.BoolVar(&g.noColor, "no-color", false, "don't use colors (env NO_COLOR)")
	g.set.StringVar(&g.actor, "actor", getenv("USER"),
		"who decides, for the journal; a client certificate takes precedence (env USER)")
}

// repeated returns the connection flags of this command line with a leading space, for a command that the output
// suggests.
func (g *globalFlags) repeated() string {
	var out strings.Builder
	for _, name := range []string{"address", "tls", "tls-ca", "tls-cert", "tls-key", "tls-server-name", "token-file",
		"insecure"} {
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

// connect sets the client, unless an earlier call did. It doesn't dial; the first call to the orchestrator does.
func (a *app) connect(ctx context.Context) error {
	if a.client != nil {
		return nil
	}
	options := a.flags.connection
	options.Version = a.Build.Version
	client, err := connection.New(ctx, options)
	if err != nil {
		return err
	}
	a.client = client
	a.progress.say("waiting for %s", options.Address)
	return nil
}

// unary limits one call to --timeout.
func (a *app) unary(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, a.flags.connection.Timeout)
}

// long limits a stream to --timeout if the command line sets it.
func (a *app) long(ctx context.Context) (context.Context, context.CancelFunc) {
	if a.flags.set.Changed("timeout") {
		return context.WithTimeout(ctx, a.flags.connection.Timeout)
	}
	return context.WithCancel(ctx)
}
