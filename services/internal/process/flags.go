package process

import (
	"errors"
	"flag"
	"fmt"
	"slices"

	"github.com/treatyhq/treaty/participant"
	"github.com/treatyhq/treaty/participant/inbox"
)

// settings are the values of the flags that every service has.
type settings struct {
	server   participant.Options
	database string // path of the SQLite database file
	inbox    inbox.Options
}

// newFlags returns a service's flags, and the settings that they set when they are parsed.
func newFlags(service Service) (*flag.FlagSet, *settings) {
	s := &settings{server: participant.Options{
		Name: service.Name, Listen: service.Listen, StopTimeout: participant.DefaultStopTimeout,
	}}
	o := &s.server
	flags := flag.NewFlagSet(service.Name, flag.ContinueOnError)
	flags.StringVar(&o.Listen, "listen", o.Listen, "`host:port` to listen on; port 0 picks a free port")
	flags.StringVar(&o.TLSCertFile, "tls-cert", "", "`file` with the server's certificate chain (PEM)")
	flags.StringVar(&o.TLSKeyFile, "tls-key", "", "`file` with the server's private key (PEM)")
	flags.StringVar(&o.TLSClientCAFile, "tls-client-ca", "",
		"`file` with the authorities that issue client certificates (PEM); turns on mutual TLS")
	flags.Func("orchestrator-identity",
		"believe only orchestrators whose client certificate has this `identity`, a URI such as a SPIFFE id, or a DNS "+
			"name; * for every caller; repeat it for each one (default: every caller with a certificate of "+
			"--tls-client-ca, every caller with --insecure, otherwise this machine)",
		func(identity string) error {
			o.Orchestrators = append(o.Orchestrators, identity)
			return nil
		})
	flags.BoolVar(&o.Insecure, "insecure", false,
		"allow plaintext beyond loopback: anybody on the network can read, change and send commands")
	flags.DurationVar(&o.StopTimeout, "stop-timeout", o.StopTimeout,
		"how long calls in flight may take to finish after SIGTERM")
	flags.StringVar(&s.database, "db", service.Name+".db", "SQLite database `file`; created if it doesn't exist")
	flags.DurationVar(&s.inbox.Retention, "inbox-retention", 0,
		"how long the inbox keeps its rows at least; an older row goes once the orchestrator has said that no more "+
			"commands of its saga come, so any time is safe; 0 keeps all rows forever")
	if service.AddFlags != nil {
		service.AddFlags(flags)
	}
	return flags, s
}

// parse parses arguments that must all be flags. The flag set's output is only used for --help. All errors but
// [flag.ErrHelp] are usage errors.
func parse(flags *flag.FlagSet, args []string) error {
	flags.Usage = func() {}
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintf(flags.Output(), "Usage of %s:\n", flags.Name())
		flags.PrintDefaults()
		return err
	case err != nil:
		return &usageError{err}
	case flags.NArg() > 0:
		return &usageError{fmt.Errorf("unexpected argument %q: the service takes flags only", flags.Arg(0))}
	}
	return nil
}

// check names flags where [participant.NewServer] would name its options.
func (s *settings) check() error {
	o := s.server
	switch {
	case (o.TLSCertFile == "") != (o.TLSKeyFile == ""):
		return errors.New("--tls-cert and --tls-key belong together: set both or neither")
	case o.TLSCertFile == "" && o.TLSClientCAFile != "":
		return errors.New("--tls-client-ca requires --tls-cert and --tls-key")
	case slices.Contains(o.Orchestrators, ""):
		return errors.New("--orchestrator-identity is empty: want a URI such as a SPIFFE id, or a DNS name")
	case len(o.Orchestrators) > 0 && !slices.Contains(o.Orchestrators, participant.AnyCaller) &&
		o.TLSClientCAFile == "":
		return errors.New("--orchestrator-identity requires --tls-client-ca: " +
			"a caller needs a certificate to be known")
	case o.TLSCertFile != "" && o.Insecure:
		return errors.New("--insecure and --tls-cert contradict each other: set only one of them")
	}
	return nil
}

// usageError is the error for a wrong command line.
type usageError struct{ cause error }

// Error returns what is wrong with the command line.
func (e *usageError) Error() string { return e.cause.Error() }

// Unwrap returns the cause.
func (e *usageError) Unwrap() error { return e.cause }
