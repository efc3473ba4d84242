package orchestrator

import (
	"log/slog"
	"time"
)

// Option sets one thing of an Orchestrator.
type Option func(*settings)

// settings is what the options add up to.
type settings struct {
	store          string
	participants   []participant
	tlsCert        string
	tlsKey         string
	tlsClientCA    string
	participantTLS *ParticipantTLS
	insecure       bool
	logger         *slog.Logger
	ready          func(Ready)
	retention      time.Duration
	eventRetention time.Duration
}

// participant is who serves one service.
type participant struct{ service, target string }

// DefaultStore is the SQLite file that sagas are kept in when nothing else is said.
const DefaultStore = "treaty.db"

// WithStore names the SQLite file that sagas are kept in. It is made if it isn't there; its directory isn't. One process at a time
// can have it open. Default DefaultStore.
func WithStore(path string) Option { return func(s *settings) { s.store = path } }

// WithParticipant says who serves a service, e.g. "acme.customer.v1.CustomerService", at which target: "host:port", or any other
// that gRPC's resolvers understand. A service has one participant; a participant may have several services.
func WithParticipant(service, target string) Option {
	return func(s *settings) { s.participants = append(s.participants, participant{service, target}) }
}

// WithRetention says how long sagas are kept after their end whose contract doesn't say. 0 means for ever, which is the default. Sagas that
// haven't ended, and those that a parent may undo, are always kept.
func WithRetention(kept time.Duration) Option { return func(s *settings) { s.retention = kept } }

// DefaultEventRetention is how long events are kept when nothing else is said.
const DefaultEventRetention = 7 * 24 * time.Hour

// WithEventRetention says how long events are kept: for sagas that await them later, and for consumers. 0 means for ever. Default
// DefaultEventRetention.
func WithEventRetention(kept time.Duration) Option {
	return func(s *settings) { s.eventRetention = kept }
}

// WithTLS serves the API with a certificate and its key, PEM files that are read again when they change. Default: plaintext, on
// loopback only.
func WithTLS(certFile, keyFile string) Option {
	return func(s *settings) { s.tlsCert, s.tlsKey = certFile, keyFile }
}

// WithClientCA lets in only clients with a certificate of the authorities in this PEM file. It needs WithTLS.
func WithClientCA(file string) Option { return func(s *settings) { s.tlsClientCA = file } }

// ParticipantTLS is how participants are spoken to. The files are PEM and are read again when they change.
type ParticipantTLS struct {
	// CAFile holds the authorities that participants' certificates must come from. Empty: the system's.
	CAFile string

	// CertFile and KeyFile are the orchestrator's own certificate and its key, for participants that ask for one. Both or neither.
	CertFile, KeyFile string
}

// WithParticipantTLS speaks TLS to all participants. Default: plaintext, to loopback only.
func WithParticipantTLS(params ParticipantTLS) Option {
	return func(s *settings) { s.participantTLS = &params }
}

// WithInsecure allows plaintext beyond loopback, for the API and towards participants. It gives up secrecy and identity: whoever is on
// the way can read and change requests, start and cancel sagas, and pose as a participant.
func WithInsecure() Option { return func(s *settings) { s.insecure = true } }

// WithLogger sets where the orchestrator and saga code log. Payloads are never logged. Default: slog.Default().
func WithLogger(logger *slog.Logger) Option { return func(s *settings) { s.logger = logger } }

// Ready is what a serving orchestrator tells about itself.
type Ready struct {
	// Address is where the API is served, with the port that was chosen.
	Address string

	// Transport is "TLS", "mutual TLS" or "plaintext".
	Transport string

	// Store is the absolute path of the store.
	Store string

	// Recovered is how many open sagas were found in the store.
	Recovered int
}

// WithReady has ready called once, when the API is served and all open sagas are under way again.
func WithReady(ready func(Ready)) Option { return func(s *settings) { s.ready = ready } }
