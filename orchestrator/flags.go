package orchestrator

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/treatyhq/treaty/orchestrator/internal/telemetry"
)

// environmentPrefix is the prefix of the environment variables.
const environmentPrefix = "TREATY_"

// flags are the program's flags.
type flags struct {
	config         string
	listen         string
	store          string
	storeKeys      string
	participants   participantFlag
	broadcasts     broadcastFlag
	tlsCert        string
	tlsKey         string
	tlsClientCA    string
	partTLSCA      string
	partTLSCert    string
	partTLSKey     string
	insecure       bool
	openAccess     bool
	auditLog       string
	retention      time.Duration
	children       time.Duration
	sagaIDs        time.Duration
	eventRetention time.Duration
	eventIDs       time.Duration
	turnLimit      time.Duration
	heapFloor      int64
	name           string
	answers        answersFlag
	commands       commandsFlag
	contracts      contractsFlag
	identities     identityFlag
	parents        parentFlag
	policy         string
	token          tokenFlags
	startLimits    limitFlag
	streams        StreamLimits
	connectionAge  time.Duration
	eventLimit     int
	callerStarts   float64
	health         healthFlags
	labelLimits    limitFlag
	logLevel       string
	logFormat      string

	participantLimits limitFlag

	tlsOf map[string]ParticipantTLS // of participants, by service; only a configuration file sets it
}

func (f *flags) register(set *pflag.FlagSet) {
	set.SortFlags = false
	set.StringVar(&f.config, configFlag, "",
		"a YAML `FILE` whose keys are the names of these flags; variables and flags take precedence")
	set.StringVar(&f.listen, "listen", DefaultListen,
		"address of the API, `HOST:PORT` or unix:PATH; port 0 is a free port")
	set.StringVar(&f.store, "store", DefaultStore,
		"`URL` of the store that keeps the sagas: the path of a SQLite file, which is created, or "+
			"postgres://HOST/DATABASE")
	set.StringVar(&f.storeKeys, "store-keys", "",
		"seal payloads in the store with the keys in this `FILE`, which the command keys writes; a store that has "+
			"once had keys needs them for good")
	set.Var(&f.participants, "participant",
		"a participant and its services, `SERVICE[,SERVICE...]=HOST:PORT`; repeat the flag for more participants")
	set.Var(&f.broadcasts, "broadcast",
		"who takes part in the broadcasts of a service, `SERVICE=PARTICIPANT[,PARTICIPANT...]`, each by a service of "+
			"its --participant; a participant of SERVICE itself always does; repeat the flag for more services")
	set.StringVar(&f.tlsCert, "tls-cert", "",
		"serve the API over TLS with this certificate, a PEM `FILE`; requires --tls-key")
	set.StringVar(&f.tlsKey, "tls-key", "", "the key of --tls-cert, a PEM `FILE`")
	set.StringVar(&f.tlsClientCA, "tls-client-ca", "",
		"admit only clients with a certificate of an authority in this PEM `FILE`; requires --tls-cert")
	set.StringVar(&f.partTLSCA, "participant-tls-ca", "",
		"use TLS to all participants, and trust the authorities in this PEM `FILE`")
	set.StringVar(&f.partTLSCert, "participant-tls-cert", "",
		"use TLS to all participants, and present this certificate, a PEM `FILE`; requires --participant-tls-key")
	set.StringVar(&f.partTLSKey, "participant-tls-key", "", "the key of --participant-tls-cert, a PEM `FILE`")
	set.BoolVar(&f.insecure, "insecure", false,
		"allow plaintext beyond this machine, for the API, unless it has a certificate, and to participants. "+
			"Gives up confidentiality and authentication: anybody on the network can read and change payloads, "+
			"start and cancel sagas, and impersonate participants")
	set.BoolVar(&f.openAccess, "open-access", false,
		"let everybody who can connect do everything, also from other machines; with --tls-client-ca, everybody with "+
			"a certificate. Without it, the API is served to this machine only, unless something says who may do what")
	set.StringVar(&f.auditLog, "audit-log", "",
		"append who did what, and who was refused, to this `FILE`, as lines of JSON; stderr is the standard error")
	set.StringVar(&f.name, "name", "",
		"the orchestrator's `NAME`; orchestrators that call the same participants need different names")
	set.Var(&f.answers, "answers",
		"what to believe of a participant's answers, `SERVICE=KIND`: proven, plain, settled (an older library whose "+
			"refusals all come from its inbox) or repeated (behind a proxy that repeats calls); found out by default; "+
			"repeat the flag for more participants")
	set.Var(&f.commands, "commands",
		"how commands get to a participant, `SERVICE=KIND`: stream (in batches, if the participant serves it; the "+
			"default) or unary (one call for each); repeat the flag for more participants")
	set.Var(&f.contracts, "contracts",
		"whether a participant's contracts are compared with the orchestrator's, `SERVICE=CHECK`: checked (commands "+
			"whose contract has drifted wait; the default), strict (commands wait, too, if it can't be compared) or "+
			"unchecked; repeat the flag for more participants")
	set.Var(&f.identities, "participant-identity",
		"who completes the commands that a participant has accepted, `SERVICE=IDENTITY`: a URI such as a SPIFFE id, "+
			"or a DNS name, in the caller's certificate; requires --tls-client-ca; everybody by default; repeat the "+
			"flag for more identities and participants")
	set.Var(&f.parents, "parent-identity",
		"the `IDENTITY` of an orchestrator whose sagas may have children here: a URI such as a SPIFFE id, or a DNS "+
			"name, in its certificate; requires --tls-client-ca, except for *, which is everybody; every caller with "+
			"a certificate by default, and callers on this machine; repeat the flag for more orchestrators")
	f.registerPolicy(set)
	f.token.register(set)
	set.Var((*retentionFlag)(&f.retention), "retention",
		"delete sagas this `TIME` after they ended, e.g. 720h, except those of definitions whose contracts set a "+
			"retention, which treaty definitions shows; 0 keeps them forever")
	f.children = DefaultChildRetention
	set.Var((*retentionFlag)(&f.children), "child-retention",
		"delete sagas that a parent at another orchestrator may compensate this `TIME` after they ended, or later; 0 "+
			"keeps them forever")
	set.Var((*retentionFlag)(&f.sagaIDs), "saga-id-retention",
		"forget the ids of deleted sagas this `TIME` after they ended, so that the same start runs a new saga; 0 "+
			"keeps them forever")
	f.eventRetention = DefaultEventRetention
	set.Var((*retentionFlag)(&f.eventRetention), "event-retention",
		"delete events this `TIME` after they were published; 0 keeps them forever")
	f.eventIDs = DefaultEventIDRetention
	set.Var((*retentionFlag)(&f.eventIDs), "event-id-retention",
		"this `TIME` after an event was deleted, forget that it was published")
	set.DurationVar(&f.turnLimit, "turn-limit", DefaultTurnLimit,
		"suspend a saga whose code runs for this `TIME` without sending a command, waiting or returning")
	set.Int64Var(&f.heapFloor, "heap-floor", DefaultHeapFloor,
		"allocate this many `BYTES` between two garbage collections, at least; a negative number leaves it to Go, and "+
			"so do GOGC and GOMEMLIMIT")
	f.participantLimits.rates, f.startLimits.rates = true, true
	set.Var(&f.participantLimits, "participant-limit",
		"how many commands are in flight to a participant, and are sent to it per second, at most: "+
			"`SERVICE=LIMIT[,LIMIT/s]`; repeat the flag for more participants")
	set.Var(&f.startLimits, "start-limit",
		"how many sagas of a definition may be open, and may be started per second: `DEFINITION=LIMIT[,LIMIT/s]`; "+
			"repeat the flag for more definitions")
	set.Var(&f.labelLimits, "label-limit",
		"how many sagas with the same value of a label may be open: `LABEL=LIMIT`; repeat the flag for more labels")
	set.IntVar(&f.eventLimit, "event-limit", 0,
		"the `NUMBER` of events that may be stored; more are refused until older ones are purged; 0 means any number")
	set.Float64Var(&f.callerStarts, "caller-starts", 0,
		"the `NUMBER` of sagas that one caller may start per second; 0 means any number")
	f.streams.register(set)
	f.health.register(set)
	set.DurationVar(&f.connectionAge, "connection-age", DefaultConnectionAge,
		"close connections of clients after this `TIME`, so that who was let in once is checked again; 0 means never")
	set.StringVar(&f.logLevel, "log-level", "info",
		"lowest `LEVEL` to log: debug, info, warn or error; debug logs each call")
	set.StringVar(&f.logFormat, "log-format", "text", "`FORMAT` of the log on standard error: text or json")
}

// variable is the environment variable of a flag: TREATY_TLS_CERT for --tls-cert.
func variable(flag string) string {
	return environmentPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// fromEnvironment sets the flags that the command line doesn't set. The variable of a flag that can be repeated holds
// several values, separated by white space or semicolons.
func fromEnvironment(set *pflag.FlagSet, getenv func(string) string) error {
	var failure error
	set.VisitAll(func(flag *pflag.Flag) {
		value := getenv(variable(flag.Name))
		if flag.Name == "help" || flag.Changed || value == "" || failure != nil {
			return
		}
		values := []string{value}
		if repeatable(flag) {
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

// String returns nothing: help shows no default.
func (f *participantFlag) String() string { return "" }

// Type returns the name of the type.
func (f *participantFlag) Type() string { return "participant" }

// Set adds one participant.
func (f *participantFlag) Set(text string) error {
	services, target, ok := strings.Cut(text, "=")
	if !ok || services == "" || target == "" {
		return fmt.Errorf("%q isn't a participant: want SERVICE[,SERVICE...]=HOST:PORT, "+
			"for example acme.customer.v1.CustomerService=127.0.0.1:7101", text)
	}
	for service := range strings.SplitSeq(services, ",") {
		service = strings.TrimSpace(service)
		if !protoreflect.FullName(service).IsValid() {
			return fmt.Errorf("%q isn't a service: want its full name, for example acme.customer.v1.CustomerService",
				service)
		}
		*f = append(*f, participant{service: service, target: strings.TrimSpace(target)})
	}
	return nil
}

// broadcastFlag collects SERVICE=PARTICIPANT[,PARTICIPANT...].
type broadcastFlag []broadcast

// String returns nothing: help shows no default.
func (f *broadcastFlag) String() string { return "" }

// Type returns the name of the type.
func (f *broadcastFlag) Type() string { return "broadcast" }

// Set adds participants of the broadcasts of one service.
func (f *broadcastFlag) Set(text string) error {
	service, participants, ok := strings.Cut(text, "=")
	if !ok || service == "" || participants == "" {
		return fmt.Errorf("%q names nobody: want SERVICE=PARTICIPANT[,PARTICIPANT...], "+
			"for example acme.privacy.v1.UserDataService=acme.card.v1.CardService", text)
	}
	for name := range strings.SplitSeq(participants, ",") {
		*f = append(*f, broadcast{service: strings.TrimSpace(service), participant: strings.TrimSpace(name)})
	}
	return nil
}

// answersFlag collects SERVICE=KIND.
type answersFlag map[string]Answers

// String returns nothing: help shows no default.
func (f *answersFlag) String() string { return "" }

// Type returns the name of the type.
func (f *answersFlag) Type() string { return "answers" }

// Set adds one participant.
func (f *answersFlag) Set(text string) error {
	service, kind, ok := strings.Cut(text, "=")
	if !ok || service == "" || kind == "" {
		return fmt.Errorf("%q says nothing: want SERVICE=KIND, for example acme.customer.v1.CustomerService=plain",
			text)
	}
	if *f == nil {
		*f = make(answersFlag)
	}
	(*f)[strings.TrimSpace(service)] = Answers(strings.TrimSpace(kind))
	return nil
}

// commandsFlag collects SERVICE=unary and SERVICE=stream. It maps a service to whether it is the latter.
type commandsFlag map[string]bool

// String returns nothing: help shows no default.
func (f *commandsFlag) String() string { return "" }

// Type returns the name of the type.
func (f *commandsFlag) Type() string { return "kind" }

// Set adds one participant.
func (f *commandsFlag) Set(text string) error {
	service, kind, _ := strings.Cut(text, "=")
	service, kind = strings.TrimSpace(service), strings.TrimSpace(kind)
	if service == "" || kind != "unary" && kind != "stream" {
		return fmt.Errorf("%q says nothing: want SERVICE=unary or SERVICE=stream, for example "+
			"acme.customer.v1.CustomerService=unary", text)
	}
	if *f == nil {
		*f = make(commandsFlag)
	}
	(*f)[service] = kind == "stream"
	return nil
}

// identityFlag collects SERVICE=IDENTITY.
type identityFlag []participantIdentity

// participantIdentity is an identity of the participant that serves a service.
type participantIdentity struct{ service, identity string }

// String returns nothing: help shows no default.
func (f *identityFlag) String() string { return "" }

// Type returns the name of the type.
func (f *identityFlag) Type() string { return "identity" }

// Set adds one identity.
func (f *identityFlag) Set(text string) error {
	service, identity, ok := strings.Cut(text, "=")
	if !ok || service == "" || identity == "" {
		return fmt.Errorf("%q names no identity: want SERVICE=IDENTITY, "+
			"for example acme.identity.v1.IdentityService=spiffe://acme.example/identity", text)
	}
	*f = append(*f, participantIdentity{strings.TrimSpace(service), strings.TrimSpace(identity)})
	return nil
}

// retentionFlag is how long something is kept.
type retentionFlag time.Duration

// String returns the time; 0 means forever.
func (f *retentionFlag) String() string {
	if *f == 0 {
		return "0"
	}
	return time.Duration(*f).String()
}

// Type returns the name of the type.
func (f *retentionFlag) Type() string { return "duration" }

// Set sets the time. It rejects a negative one.
func (f *retentionFlag) Set(text string) error {
	kept, err := time.ParseDuration(text)
	if err != nil {
		return err
	}
	if kept < 0 {
		return errors.New("want a time such as 720h, or 0 to keep forever")
	}
	*f = retentionFlag(kept)
	return nil
}

// parentFlag collects identities of parents' orchestrators.
type parentFlag []string

// String returns nothing: help shows no default.
func (f *parentFlag) String() string { return "" }

// Type returns the name of the type.
func (f *parentFlag) Type() string { return "identity" }

// Set adds one identity.
func (f *parentFlag) Set(identity string) error {
	*f = append(*f, strings.TrimSpace(identity))
	return nil
}

// options returns the flags as options of New.
func (f *flags) options(logger *slog.Logger) []Option {
	options := []Option{
		WithStore(f.store), WithStoreKeys(f.storeKeys), WithName(f.name), WithRetention(f.retention),
		WithChildRetention(f.children),
		WithEventRetention(f.eventRetention),
		WithSagaIDRetention(f.sagaIDs), WithEventIDRetention(f.eventIDs), WithTurnLimit(f.turnLimit),
		WithHeapFloor(f.heapFloor),
		WithTLS(f.tlsCert, f.tlsKey), WithClientCA(f.tlsClientCA), WithLogger(logger),
		WithPolicyFile(f.policy), f.token.option(),
		WithStreamLimits(f.streams), WithConnectionAge(f.connectionAge),
		WithEventLimit(f.eventLimit), WithCallerStarts(f.callerStarts),
	}
	for _, p := range f.participants {
		options = append(options, WithParticipant(p.service, p.target))
	}
	for _, b := range f.broadcasts {
		options = append(options, WithBroadcast(b.service, b.participant))
	}
	for service, answers := range f.answers {
		options = append(options, WithAnswers(service, answers))
	}
	for service, check := range f.contracts {
		options = append(options, WithContracts(service, check))
	}
	for service, on := range f.commands {
		options = append(options, streamed(service, on))
	}
	for _, i := range f.identities {
		options = append(options, WithParticipantIdentity(i.service, i.identity))
	}
	for _, identity := range f.parents {
		options = append(options, WithParentIdentity(identity))
	}
	if f.partTLSCA != "" || f.partTLSCert != "" || f.partTLSKey != "" {
		options = append(options, WithParticipantTLS(ParticipantTLS{
			CAFile: f.partTLSCA, CertFile: f.partTLSCert, KeyFile: f.partTLSKey,
		}))
	}
	for service, params := range f.tlsOf {
		options = append(options, WithParticipantTLSFor(service, params))
	}
	options = append(options, f.limitOptions()...)
	options = append(options, f.health.options()...)
	if f.insecure {
		options = append(options, WithInsecure())
	}
	if f.openAccess {
		options = append(options, WithOpenAccess())
	}
	return options
}

// logger returns a logger by --log-level and --log-format.
func (f *flags) logger(out io.Writer) (*slog.Logger, error) {
	var level slog.Level
	switch f.logLevel {
	case "debug", "info", "warn", "error":
		if err := level.UnmarshalText([]byte(f.logLevel)); err != nil {
			return nil, usageError{fmt.Errorf("--log-level: %w", err)}
		}
	default:
		return nil, usageError{fmt.Errorf("--log-level %q is unknown: want debug, info, warn or error", f.logLevel)}
	}
	options := &slog.HandlerOptions{Level: level}
	switch f.logFormat {
	case "text":
		return slog.New(telemetry.NewLogHandler(slog.NewTextHandler(out, options))), nil
	case "json":
		return slog.New(telemetry.NewLogHandler(slog.NewJSONHandler(out, options))), nil
	default:
		return nil, usageError{fmt.Errorf("--log-format %q is unknown: want text or json", f.logFormat)}
	}
}

// auditLogger returns the logger of --audit-log, or nil if there is none, and a function that closes it.
func (f *flags) auditLogger(stderr io.Writer) (logger *slog.Logger, closeFile func(), err error) {
	switch f.auditLog {
	case "":
		return nil, func() {}, nil
	case "stderr":
		return slog.New(slog.NewJSONHandler(stderr, nil)), func() {}, nil
	}
	file, err := os.OpenFile(f.auditLog, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("opening the audit log: %w", err)
	}
	return slog.New(slog.NewJSONHandler(file, nil)), func() { _ = file.Close() }, nil
}

// usageError is a wrong command line or environment.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }
