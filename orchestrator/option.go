package orchestrator

import (
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"

	"github.com/treatyhq/treaty/internal/caller"
	"github.com/treatyhq/treaty/internal/heapfloor"
	"github.com/treatyhq/treaty/orchestrator/access"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
)

// Option configures an Orchestrator.
type Option func(*settings)

// settings are what the options set.
type settings struct {
	store          string
	storeKeys      string // the file of the store's keys; empty: none
	participants   []participant
	broadcasts     []broadcast
	tlsCert        string
	tlsKey         string
	tlsClientCA    string
	participantTLS *ParticipantTLS
	tlsOf          map[string]ParticipantTLS // of single participants, by service
	insecure       bool
	logger         *slog.Logger
	ready          func(Ready)
	retention      time.Duration
	childRetention time.Duration
	eventRetention time.Duration
	sagaIDs        time.Duration
	eventIDs       time.Duration
	turnLimit      time.Duration
	name           string
	answers        map[string]Answers       // by service
	contracts      map[string]ContractCheck // by service
	streamed       map[string]bool          // whether commands are sent on a stream or as unary calls, by service
	identities     map[string][]string      // of participants' certificates, by service
	parents        []string                 // the identities of parents' orchestrators
	tokens         access.TokenVerifier     // nil: tokens count for nothing
	authorizer     access.Authorizer        // nil: everybody may do everything
	open           bool                     // beyond loopback, too
	audit          *slog.Logger             // nil: nothing is audited
	starts         engine.StartLimits
	policyFile     string // empty: there is no policy
	token          tokenSettings
	heapFloor      int64 // as heapfloor.Hold takes it
	streams        StreamLimits
	connectionAge  time.Duration
	eventLimit     int
	callerStarts   float64 // per second; 0: any number
	healthListen   string  // empty: only with the API
	grpcServices   grpcServices

	participantLimits map[string]ParticipantLimits // by service

	serverOptions []grpc.ServerOption
	dialOptions   map[string][]grpc.DialOption // by service
	spanExporter  sdktrace.SpanExporter        // nil: as the environment says
	spanSampler   sdktrace.Sampler             // nil: as the environment says
	resource      *resource.Resource           // nil: as the environment says

	spanProcessors []sdktrace.SpanProcessor
	metricReader   metric.Reader // nil: as the environment says
}

// participant says that a target serves a service.
type participant struct{ service, target string }

// broadcast says that a participant takes part in the broadcasts of a service.
type broadcast struct{ service, participant string }

// DefaultStore is the default of WithStore.
const DefaultStore = "treaty.db"

// WithStore sets the URL of the store that keeps the sagas. A path names a SQLite file, which is created if it doesn't
// exist; its directory must exist. One process at a time can have it open. Default DefaultStore.
func WithStore(url string) Option { return func(s *settings) { s.store = url } }

// WithParticipant sets the target that serves a service, e.g. "acme.customer.v1.CustomerService". The target is
// "host:port" or any other that gRPC's resolvers understand. A service has one target; several services may have the
// same.
func WithParticipant(service, target string) Option {
	return func(s *settings) { s.participants = append(s.participants, participant{service, target}) }
}

// WithBroadcast names participants that take part in the broadcasts of a service, e.g. those of
// "acme.privacy.v1.UserDataService": each by a service that [WithParticipant] configures it for, which no linked
// contract needs to have. It can be used several times. A participant that is configured for the service itself takes
// part anyway, and no other does. If nobody takes part, a saga that sends a broadcast of the service waits until an
// orchestrator is started with participants.
func WithBroadcast(service string, participants ...string) Option {
	return func(s *settings) {
		for _, name := range participants {
			s.broadcasts = append(s.broadcasts, broadcast{service, name})
		}
	}
}

// WithName sets the orchestrator's name. Orchestrators that call the same participants need different names: the name
// is part of what saga ids are derived from, and of what participants tell orchestrators apart by. A store belongs to
// the name with which it was first opened. At most 64 letters, digits, "-", "_" and ".". Default: no name.
func WithName(name string) Option { return func(s *settings) { s.name = name } }

// Answers says what may be believed of a participant's answers.
type Answers string

// What may be believed of a participant's answers.
const (
	// AnswersProven is a participant that marks its answers. What isn't marked comes from somebody on the way.
	AnswersProven Answers = "proven"

	// AnswersPlain is a participant that marks nothing. Its errors are believed if they come as gRPC.
	AnswersPlain Answers = "plain"

	// AnswersSettled is a participant that marks nothing and whose refusals all come from an inbox, so that they hold
	// for every attempt: one with an earlier version of the library.
	AnswersSettled Answers = "settled"

	// AnswersRepeated is a participant behind a proxy that repeats calls. Every refusal leaves a doubt.
	AnswersRepeated Answers = "repeated"
)

// WithAnswers declares what may be believed of the answers of the participant that serves a service. By default the
// orchestrator finds it out: a participant that has ever marked an answer is proven for good, and one that doesn't know
// treaty.v1.ParticipantService is plain. Declare a participant to take that back.
func WithAnswers(service string, answers Answers) Option {
	return func(s *settings) {
		if s.answers == nil {
			s.answers = make(map[string]Answers)
		}
		s.answers[service] = answers
	}
}

// WithUnary sends commands to the participant that serves a service as unary calls only. By default they travel in
// batches on a stream if the participant serves it, as those with the Go library do, which costs both sides far less.
// Use it if something on the way allows only the participant's own methods, and can't be taught that
// treaty.v1.ParticipantService/StreamCommands is one, too. Where a stream can't be opened, unary calls are made anyway.
func WithUnary(service string) Option { return streamed(service, false) }

// WithStream sends commands to the participant that serves a service on a stream, if the participant serves it, even if
// there are options for its connection ([WithParticipantDialOptions]), among which there may be interceptors of unary
// calls. Those don't see the commands.
func WithStream(service string) Option { return streamed(service, true) }

func streamed(service string, on bool) Option {
	return func(s *settings) {
		if s.streamed == nil {
			s.streamed = make(map[string]bool)
		}
		s.streamed[service] = on
	}
}

// WithParticipantIdentity declares an identity in the client certificate of the participant that serves a service: a
// URI such as a SPIFFE id, or a DNS name. The subject's common name counts only in a certificate that has neither. If a
// participant has identities, only callers with one of them complete the commands that it has accepted, and send
// heartbeats for them. Declare those of people who may, too. It requires WithClientCA. By default, everybody who can
// call the API may.
func WithParticipantIdentity(service, identity string) Option {
	return func(s *settings) {
		if s.identities == nil {
			s.identities = make(map[string][]string)
		}
		s.identities[service] = append(s.identities[service], identity)
	}
}

// AnyParent is the identity of every caller, for WithParentIdentity.
const AnyParent = caller.Any

// WithParentIdentity declares an identity in the client certificate of an orchestrator whose sagas may have children
// here: a URI such as a SPIFFE id, or a DNS name. The subject's common name counts only in a certificate that has
// neither. Only callers with one of the identities start and compensate child sagas, and call ParticipantService. It
// requires WithClientCA, except for AnyParent. It may be used more than once. Default: every caller with a certificate
// of WithClientCA, and callers on this machine; everybody WithInsecure.
func WithParentIdentity(identity string) Option {
	return func(s *settings) { s.parents = append(s.parents, identity) }
}

// WithRetention sets how long sagas are kept after they ended, for definitions whose contract doesn't say. 0 means
// forever. Default 0. Sagas that haven't ended, and those that a parent may still compensate, are always kept. A child
// that a parent of the same orchestrator may compensate is purged with its parent.
func WithRetention(retention time.Duration) Option {
	return func(s *settings) { s.retention = retention }
}

// DefaultChildRetention is the default of WithChildRetention.
const DefaultChildRetention = 90 * 24 * time.Hour

// WithChildRetention sets how long children that a parent at another orchestrator may compensate are kept after they
// ended. They are kept for longer, until that orchestrator has told a horizon after the parent's start. One of an
// earlier version tells none: a parent there that compensates its child after this time is suspended. 0 means forever.
// Default DefaultChildRetention.
func WithChildRetention(retention time.Duration) Option {
	return func(s *settings) { s.childRetention = retention }
}

// MinSagaIDRetention is the least that WithSagaIDRetention accepts. A restored store asks its participants what they
// know since a day before the backup, and must still know the sagas of that time.
const MinSagaIDRetention = 48 * time.Hour

// WithSagaIDRetention sets how long the ids of purged sagas are kept after the sagas ended. A start with the same
// request id then runs a second saga. An id is kept, too, as long as some participant hasn't been told that no command
// of that time is sent any more. 0 means forever. Default 0.
func WithSagaIDRetention(retention time.Duration) Option {
	return func(s *settings) { s.sagaIDs = retention }
}

// DefaultEventRetention is the default of WithEventRetention.
const DefaultEventRetention = 7 * 24 * time.Hour

// WithEventRetention sets how long events are kept, for sagas that await them later and for consumers. 0 means
// forever. Default DefaultEventRetention.
func WithEventRetention(retention time.Duration) Option {
	return func(s *settings) { s.eventRetention = retention }
}

// DefaultEventIDRetention is the default of WithEventIDRetention.
const DefaultEventIDRetention = 30 * 24 * time.Hour

// WithEventIDRetention sets how long the source and id of an event are kept after the event itself. An event that is
// published again within that time isn't taken as a new one. Default DefaultEventIDRetention. It must be positive.
func WithEventIDRetention(retention time.Duration) Option {
	return func(s *settings) { s.eventIDs = retention }
}

// DefaultTurnLimit is the default of WithTurnLimit.
const DefaultTurnLimit = engine.DefaultTurnLimit

// WithTurnLimit sets how long the code of a saga may run until it sends a command, waits or ends. The saga of code that
// takes longer is suspended, and the goroutine on which it runs is left behind. Time in which the process stands still
// doesn't count: when it is stopped, for example, or its machine sleeps. Default DefaultTurnLimit. It must be positive.
func WithTurnLimit(limit time.Duration) Option { return func(s *settings) { s.turnLimit = limit } }

// WithTLS serves the API over TLS with a certificate and its key. Both are PEM files, and are read again when they
// change. Default: plaintext, on loopback only.
func WithTLS(certFile, keyFile string) Option {
	return func(s *settings) { s.tlsCert, s.tlsKey = certFile, keyFile }
}

// WithClientCA admits only clients with a certificate of an authority in this PEM file. It requires WithTLS.
func WithClientCA(file string) Option { return func(s *settings) { s.tlsClientCA = file } }

// ParticipantTLS configures TLS for the connections to participants. The files are PEM, and are read again when they
// change.
type ParticipantTLS struct {
	// CAFile holds the authorities of the participants' certificates. Default: the system's authorities.
	CAFile string

	// CertFile and KeyFile are the orchestrator's own certificate and its key, for participants that require one. Set
	// both or neither.
	CertFile, KeyFile string
}

// WithParticipantTLS uses TLS for the connections to all participants. Default: plaintext, to loopback only.
func WithParticipantTLS(params ParticipantTLS) Option {
	return func(s *settings) { s.participantTLS = &params }
}

// WithParticipantTLSFor uses TLS for the connection to the participant that serves a service. It takes precedence over
// WithParticipantTLS. The services of one participant can't have different ones.
func WithParticipantTLSFor(service string, params ParticipantTLS) Option {
	return func(s *settings) {
		if s.tlsOf == nil {
			s.tlsOf = make(map[string]ParticipantTLS)
		}
		s.tlsOf[service] = params
	}
}

// WithInsecure allows plaintext beyond loopback, for the API and to participants. An API with a certificate, and
// participants WithParticipantTLS, use TLS all the same. It gives up confidentiality and authentication: anybody on the
// network can read and change requests, start and cancel sagas, and impersonate a participant.
func WithInsecure() Option { return func(s *settings) { s.insecure = true } }

// DefaultHeapFloor is the default of WithHeapFloor, in bytes.
const DefaultHeapFloor = heapfloor.Default

// WithHeapFloor sets how many bytes are allocated between two garbage collections, at least, while Serve runs. Go would
// otherwise collect the small heap of an orchestrator many times a second under load. The heap grows by up to this
// much.
//
// It is a setting of the whole process: of several orchestrators and participants in one process, the highest floor
// counts. It has no effect if the program configures its garbage collector: with GOGC or GOMEMLIMIT in the environment,
// or with debug.SetGCPercent or debug.SetMemoryLimit. 0 is DefaultHeapFloor, and a negative number no floor. Default
// DefaultHeapFloor.
func WithHeapFloor(bytes int64) Option { return func(s *settings) { s.heapFloor = bytes } }

// WithLogger sets the logger of the orchestrator and of saga code. Payloads are never logged. Default: slog.Default().
func WithLogger(logger *slog.Logger) Option { return func(s *settings) { s.logger = logger } }

// Ready describes an orchestrator that serves.
type Ready struct {
	// Address is the address of the API, with the port that was chosen, or "unix:path".
	Address string

	// Transport is "TLS", "mutual TLS" or "plaintext".
	Transport string

	// Store is where the store is: the absolute path of a file, or a URL without its password.
	Store string

	// Recovered is how many open sagas were found in the store.
	Recovered int
}

// WithReady sets a function that is called once, when the API is served and all open sagas have been recovered.
func WithReady(ready func(Ready)) Option { return func(s *settings) { s.ready = ready } }
