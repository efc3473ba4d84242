package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/treatyhq/treaty/orchestrator/internal/telemetry"
)

// DefaultListen is where the program serves when nothing else is said.
const DefaultListen = "127.0.0.1:7080"

// environmentPrefix begins the variable of each flag.
const environmentPrefix = "TREATY_"

// flags are the program's flags.
type flags struct {
	listen       string
	store        string
	participants participantFlag
	tlsCert      string
	tlsKey       string
	tlsClientCA  string
	partTLSCA    string
	partTLSCert  string
	partTLSKey   string
	insecure     bool
	retention    time.Duration
	eventsKept   time.Duration
	logLevel     string
	logFormat    string
}

func (f *flags) register(set *pflag.FlagSet) {
	set.SortFlags = false
	set.StringVar(&f.listen, "listen", DefaultListen, "serve the API on this `HOST:PORT`; port 0 is a free one")
	set.StringVar(&f.store, "store", DefaultStore, "keep sagas in this SQLite `FILE`; created when it isn't there")
	set.Var(&f.participants, "participant", "who serves which services, `SERVICE[,SERVICE...]=HOST:PORT`; once per participant")
	set.StringVar(&f.tlsCert, "tls-cert", "", "serve the API by TLS with this certificate, a PEM `FILE`; needs --tls-key")
	set.StringVar(&f.tlsKey, "tls-key", "", "the certificate's key, a PEM `FILE`")
	set.StringVar(&f.tlsClientCA, "tls-client-ca", "", "let in only clients with a certificate of the authorities in this PEM `FILE`")
	set.StringVar(&f.partTLSCA, "participant-tls-ca", "", "speak TLS to all participants and trust the authorities in this PEM `FILE`")
	set.StringVar(&f.partTLSCert, "participant-tls-cert", "", "speak TLS to all participants and show them this certificate, a PEM `FILE`; needs --participant-tls-key")
	set.StringVar(&f.partTLSKey, "participant-tls-key", "", "that certificate's key, a PEM `FILE`")
	set.BoolVar(&f.insecure, "insecure", false, "allow plaintext beyond this machine, for the API and towards participants. Gives up secrecy and identity: "+
		"whoever is on the way can read and change payloads, start and cancel sagas, and pose as a participant")
	set.Var((*keptFlag)(&f.retention), "retention", "delete sagas this `TIME` after their end, e.g. 720h, unless their contract says otherwise; 0 keeps them for ever")
	f.eventsKept = DefaultEventRetention
	set.Var((*keptFlag)(&f.eventsKept), "event-retention", "delete events this `TIME` after they were published; 0 keeps them for ever")
	set.StringVar(&f.logLevel, "log-level", "info", "log from this `LEVEL` on: debug, info, warn or error; debug logs each call")
	set.StringVar(&f.logFormat, "log-format", "text", "log to stderr in this `FORMAT`: text or json")
}

// variable is the environment variable of a flag: TREATY_TLS_CERT for --tls-cert.
func variable(flag string) string {
	return environmentPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// fromEnvironment sets the flags that the command line left alone. Participants stand in one variable, with white space or
// semicolons in between.
func fromEnvironment(set *pflag.FlagSet, getenv func(string) string) error {
	var failure error
	set.VisitAll(func(flag *pflag.Flag) {
		value := getenv(variable(flag.Name))
		if flag.Name == "help" || flag.Changed || value == "" || failure != nil {
			return
		}
		values := []string{value}
		if _, many := flag.Value.(*participantFlag); many {
			values = strings.FieldsFunc(value, func(r rune) bool { return strings.ContainsRune("; \t\r\n", r) })
		}
		for _, value := range values {
			if err := set.Set(flag.Name, value); err != nil {
				failure = usageError{fmt.Errorf("the environment variable %s: %w", variable(flag.Name), err)}
			}
		}
	})
	return failure
}

// participantFlag collects SERVICE[,SERVICE...]=TARGET.
type participantFlag []participant

// String is what help shows as the default: nothing.
func (f *participantFlag) String() string { return "" }

// Type names the value in help.
func (f *participantFlag) Type() string { return "participant" }

// Set adds one participant.
func (f *participantFlag) Set(text string) error {
	services, target, ok := strings.Cut(text, "=")
	if !ok || services == "" || target == "" {
		return fmt.Errorf("%q is no participant: write SERVICE[,SERVICE...]=HOST:PORT, for example acme.customer.v1.CustomerService=127.0.0.1:7101", text)
	}
	for service := range strings.SplitSeq(services, ",") {
		service = strings.TrimSpace(service)
		if !protoreflect.FullName(service).IsValid() {
			return fmt.Errorf("%q is no service name: write its full name, for example acme.customer.v1.CustomerService", service)
		}
		*f = append(*f, participant{service: service, target: strings.TrimSpace(target)})
	}
	return nil
}

// keptFlag is how long something is kept.
type keptFlag time.Duration

func (f *keptFlag) String() string {
	if *f == 0 {
		return "0"
	}
	return time.Duration(*f).String()
}

// Type names the kind of value.
func (f *keptFlag) Type() string { return "duration" }

// Set takes a time that isn't negative.
func (f *keptFlag) Set(text string) error {
	kept, err := time.ParseDuration(text)
	if err != nil {
		return err //nolint:wrapcheck // it says it all
	}
	if kept < 0 {
		return errors.New("it can't be negative: write a time such as 720h, or 0 to keep for ever")
	}
	*f = keptFlag(kept)
	return nil
}

// command is the program's command line. Serving is what it does when nothing else is asked for.
func (p program) command() *cobra.Command {
	var f flags
	serve := func(cmd *cobra.Command, _ []string) error {
		if err := fromEnvironment(cmd.Flags(), p.getenv); err != nil {
			return err
		}
		return p.serve(cmd.Context(), &f)
	}
	root := &cobra.Command{
		Use:   p.name,
		Short: "Run sagas and serve their API",
		Long: "Runs sagas: serves their API, sends commands to participants, and keeps everything in a store.\n" +
			"Each flag can be given as an environment variable as well: TREATY_LISTEN for --listen, and so on; the flag wins.\n" +
			"Spans and metrics go where the OTEL_* variables say, for example OTEL_EXPORTER_OTLP_ENDPOINT.",
		Args:              noArguments,
		RunE:              serve,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	f.register(root.PersistentFlags())
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(&cobra.Command{
		Use: "serve", Short: "Run sagas and serve their API; the default", Args: noArguments, RunE: serve,
	})
	root.AddCommand(&cobra.Command{
		Use: "verify", Short: "Replay all open sagas of the store against this program's code, without any effect; fail when it can't go on with one",
		Long: "The upgrade gate: replays every saga in --store that hasn't ended against this program's code, without any effect, and lists those with\n" +
			"which it can't go on: saga, step, what the journal expects, and what was found. It exits with 1 then. It may run beside the\n" +
			"orchestrator that has the store open.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fromEnvironment(cmd.Flags(), p.getenv); err != nil {
				return err
			}
			return p.verify(cmd, &f)
		},
	})
	return root
}

func noArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("there is no command %q", args[0])}
	}
	return nil
}

// options are the flags as options of New.
func (f *flags) options(logger *slog.Logger) []Option {
	options := []Option{WithStore(f.store), WithRetention(f.retention), WithEventRetention(f.eventsKept), WithTLS(f.tlsCert, f.tlsKey), WithClientCA(f.tlsClientCA), WithLogger(logger)}
	for _, p := range f.participants {
		options = append(options, WithParticipant(p.service, p.target))
	}
	if f.partTLSCA != "" || f.partTLSCert != "" || f.partTLSKey != "" {
		options = append(options, WithParticipantTLS(ParticipantTLS{CAFile: f.partTLSCA, CertFile: f.partTLSCert, KeyFile: f.partTLSKey}))
	}
	if f.insecure {
		options = append(options, WithInsecure())
	}
	return options
}

// logger is what --log-level and --log-format ask for.
func (f *flags) logger(out io.Writer) (*slog.Logger, error) {
	var level slog.Level
	switch f.logLevel {
	case "debug", "info", "warn", "error":
		if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
			return nil, usageError{fmt.Errorf("--log-level: %w", err)}
		}
	default:
		return nil, usageError{fmt.Errorf("--log-level %q is unknown: write debug, info, warn or error", f.logLevel)}
	}
	options := &slog.HandlerOptions{Level: level}
	switch f.logFormat {
	case "text":
		return slog.New(telemetry.NewLogHandler(slog.NewTextHandler(out, options))), nil
	case "json":
		return slog.New(telemetry.NewLogHandler(slog.NewJSONHandler(out, options))), nil
	default:
		return nil, usageError{fmt.Errorf("--log-format %q is unknown: write text or json", f.logFormat)}
	}
}

// serve runs the orchestrator until ctx ends.
func (p program) serve(ctx context.Context, f *flags) error {
	logger, err := f.logger(p.stderr)
	if err != nil {
		return err
	}
	o, err := New(append(f.options(logger), WithReady(p.announce))...)
	if err != nil {
		return err
	}
	p.register(o)
	return o.ListenAndServe(ctx, f.listen)
}

// announce prints the one line that a serving orchestrator prints.
func (p program) announce(ready Ready) {
	sagas := fmt.Sprintf("%d sagas", ready.Recovered)
	if ready.Recovered == 1 {
		sagas = "1 saga"
	}
	_, _ = fmt.Fprintf(p.stdout, "%s serving on %s (%s); store %s; %s recovered\n", p.name, ready.Address, ready.Transport, ready.Store, sagas)
}
