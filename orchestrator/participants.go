package orchestrator

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/treatyhq/treaty/internal/caller"
	"github.com/treatyhq/treaty/internal/tlsfiles"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/dispatch"
)

// connections groups the participants by target, one connection each. A participant that takes part in a broadcast may
// be configured by a service that no linked contract has.
func (s *settings) connections(catalog *contract.Catalog) ([]dispatch.Participant, error) {
	var out []dispatch.Participant
	var errs []error
	targets := make(map[string]string)
	for _, p := range s.participants {
		switch other, taken := targets[p.service]; {
		case p.target == "":
			errs = append(errs, fmt.Errorf("participant %s has no target: add host:port", p.service))
			continue
		case taken && other != p.target:
			errs = append(errs, fmt.Errorf("participant %s has two targets, %s and %s: keep one", p.service, other,
				p.target))
			continue
		case taken:
			continue
		}
		targets[p.service] = p.target
		if err := dispatch.CheckTarget(p.target); err != nil {
			errs = append(errs, fmt.Errorf("participant %s: %w", p.service, err))
			continue
		}
		i := slices.IndexFunc(out, func(d dispatch.Participant) bool { return d.Target == p.target })
		if i < 0 {
			out = append(out, dispatch.Participant{Target: p.target})
			i = len(out) - 1
		}
		out[i].Services = append(out[i].Services, p.service)
	}
	errs = append(errs, s.secure(out), s.dialWith(out), s.takePart(out, catalog), checkServices(out, catalog))
	for service, answers := range s.answers {
		errs = append(errs, declare(out, service, answers))
	}
	for service, check := range s.contracts {
		errs = append(errs, checkContracts(out, service, check))
	}
	errs = append(errs, s.stream(out))
	for service, limits := range s.participantLimits {
		errs = append(errs, limit(out, service, limits))
	}
	return out, errors.Join(errs...)
}

// stream sets how commands get to the participants. An interceptor may hide among the options of a connection, and it
// would miss the commands on a stream.
func (s *settings) stream(participants []dispatch.Participant) error {
	for i := range participants {
		participants[i].Unary = len(participants[i].DialOptions) > 0
	}
	var errs []error
	said := make(map[int]bool)
	for service, on := range s.streamed {
		i := serving(participants, service)
		if i < 0 {
			errs = append(errs, fmt.Errorf("it is set how commands of %s are sent, but no participant is configured "+
				"for it", service))
			continue
		}
		if before, twice := said[i]; twice && before != on {
			errs = append(errs, fmt.Errorf("commands to the participant %s are to be sent in two ways: choose one",
				participants[i].Target))
		}
		said[i], participants[i].Unary = on, !on
	}
	return errors.Join(errs...)
}

// takePart sets in which broadcasts the participants take part: those of the services that they are configured for, and
// those for which WithBroadcast names them.
func (s *settings) takePart(participants []dispatch.Participant, catalog *contract.Catalog) error {
	known := broadcastServices(catalog)
	var errs []error
	for i := range participants {
		for _, service := range participants[i].Services {
			if slices.Contains(known, service) {
				participants[i].Broadcasts = append(participants[i].Broadcasts, service)
			}
		}
	}
	for _, b := range s.broadcasts {
		if !slices.Contains(known, b.service) {
			errs = append(errs, fmt.Errorf("no linked contract has a service %q with broadcasts; there are %s",
				b.service, listed(known)))
			continue
		}
		i := serving(participants, b.participant)
		switch {
		case i < 0:
			errs = append(errs, fmt.Errorf("%s takes part in the broadcasts of %s, but no participant is configured "+
				"for it: add one, such as --participant %s=HOST:PORT", b.participant, b.service, b.participant))
		case !slices.Contains(participants[i].Broadcasts, b.service):
			participants[i].Broadcasts = append(participants[i].Broadcasts, b.service)
		}
	}
	return errors.Join(errs...)
}

// checkServices returns an error for each service that no linked contract has, unless its participant takes part in a
// broadcast.
func checkServices(participants []dispatch.Participant, catalog *contract.Catalog) error {
	known := commandServices(catalog)
	var errs []error
	for _, p := range participants {
		for _, service := range p.Services {
			if slices.Contains(known, service) || len(p.Broadcasts) > 0 {
				continue
			}
			advice := ""
			if broadcasts := broadcastServices(catalog); len(broadcasts) > 0 {
				advice = fmt.Sprintf("; if it takes part in broadcasts, say so with --broadcast %s=%s", broadcasts[0],
					service)
			}
			errs = append(errs, fmt.Errorf("participant %s=%s: no linked contract has a service %q with commands; "+
				"there are %s%s", service, p.Target, service, listed(known), advice))
		}
	}
	return errors.Join(errs...)
}

// declare sets what may be believed of the participant that serves a service.
func declare(participants []dispatch.Participant, service string, answers Answers) error {
	kinds := map[Answers]dispatch.Answers{
		AnswersProven: dispatch.AnswersProven, AnswersPlain: dispatch.AnswersPlain,
		AnswersSettled: dispatch.AnswersSettled, AnswersRepeated: dispatch.AnswersRepeated,
	}
	kind, known := kinds[answers]
	if !known {
		return fmt.Errorf("the answers of %s can't be %q: want proven, plain, settled or repeated", service, answers)
	}
	i := serving(participants, service)
	if i < 0 {
		return fmt.Errorf("the answers of %s are declared, but no participant is configured for it", service)
	}
	if before := participants[i].Answers; before != dispatch.AnswersAuto && before != kind {
		return fmt.Errorf("the participant %s has two kinds of answers: declare one", participants[i].Target)
	}
	participants[i].Answers = kind
	return nil
}

// serving returns the index of the participant that serves a service, or -1.
func serving(participants []dispatch.Participant, service string) int {
	return slices.IndexFunc(participants, func(p dispatch.Participant) bool {
		return slices.Contains(p.Services, service)
	})
}

// participantIdentities returns the declared identities of participants, by all services that they serve.
func (s *settings) participantIdentities(participants []dispatch.Participant) (map[string][]string, error) {
	if !s.provable(slices.Concat(slices.Collect(maps.Values(s.identities))...)) {
		return nil, errors.New("identities of participants need client certificates: set the authorities that issue " +
			"them, with --tls-client-ca")
	}
	identities := make(map[string][]string)
	var errs []error
	for service, own := range s.identities {
		i := serving(participants, service)
		switch {
		case i < 0:
			errs = append(errs, fmt.Errorf("an identity of %s is declared, but no participant is configured for it",
				service))
			continue
		case slices.Contains(own, ""):
			errs = append(errs, fmt.Errorf("an identity of %s is empty: want a URI such as a SPIFFE id, or a DNS name",
				service))
		}
		for _, served := range participants[i].Services {
			identities[served] = append(identities[served], own...)
		}
	}
	return identities, errors.Join(errs...)
}

// parentIdentities returns whose calls count as those of parents' orchestrators; see server.Config.
func (s *settings) parentIdentities() ([]string, error) {
	switch {
	case len(s.parents) == 0 && s.insecure && s.tlsClientCA == "":
		return []string{caller.Any}, nil
	case slices.Contains(s.parents, ""):
		return nil, errors.New("an identity of a parent's orchestrator is empty: want a URI such as a SPIFFE id, or " +
			"a DNS name")
	case !slices.Contains(s.parents, caller.Any) && !s.provable(s.parents):
		return nil, errors.New("identities of parents' orchestrators need client certificates: set the authorities " +
			"that issue them, with --tls-client-ca")
	default:
		return s.parents, nil
	}
}

// warnAboutIdentities logs the participants that complete commands later and have no declared identity, if callers have
// certificates: everybody with one completes their steps, or nobody if other machines can reach the API. A step that is
// a child saga ends with it, whoever calls. An authorizer says itself who completes steps.
func (o *Orchestrator) warnAboutIdentities(listener net.Listener) {
	who := "everybody with a client certificate may do it in its name"
	if o.settings.exposed(listener) {
		who = "nobody may do it"
	}
	if o.settings.authorizer != nil {
		return
	}
	if o.settings.tlsClientCA == "" {
		return
	}
	for _, p := range o.participants {
		for command := range o.catalog.Commands() {
			service, _, _ := strings.Cut(command.Method, "/")
			_, child := o.catalog.SagaDefinition(command.Method)
			takesPart := slices.Contains(p.Services, service) ||
				command.Broadcast && slices.Contains(p.Broadcasts, service)
			if command.CompleteWithin > 0 && !child && takesPart && len(o.identities[p.Services[0]]) == 0 {
				o.logger.Warn("a participant completes commands later, and "+who+
					"; declare its identity with --participant-identity",
					"service", service, "participant", p.Target)
				break
			}
		}
	}
}

// secure sets how the connections to the participants are secured.
func (s *settings) secure(participants []dispatch.Participant) error {
	var errs []error
	for service := range s.tlsOf {
		if serving(participants, service) < 0 {
			errs = append(errs, fmt.Errorf("TLS is configured for %s, but no participant is configured for it",
				service))
		}
	}
	for i := range participants {
		p := &participants[i]
		params, err := s.tlsTo(p)
		if err == nil && params != nil {
			p.TLS, err = clientTLS(p.Target, params, s.logger)
		}
		if err != nil {
			errs = append(errs, err)
		}
		if s.insecure && params == nil {
			p.Plaintext = dispatch.PlaintextAnywhere
		}
	}
	return errors.Join(errs...)
}

// tlsTo returns the configuration of TLS to a participant, or nil for plaintext.
func (s *settings) tlsTo(p *dispatch.Participant) (*ParticipantTLS, error) {
	var own *ParticipantTLS
	for _, service := range p.Services {
		params, found := s.tlsOf[service]
		if found && own != nil && *own != params {
			return own, fmt.Errorf("the participant %s has two configurations of TLS: keep one", p.Target)
		}
		if found {
			own = &params
		}
	}
	return cmp.Or(own, s.participantTLS), nil
}

func clientTLS(target string, params *ParticipantTLS, logger *slog.Logger) (*tls.Config, error) {
	config, err := tlsfiles.Client(tlsfiles.ClientParams{
		CA: params.CAFile, Cert: params.CertFile, Key: params.KeyFile, ServerName: addressOf(target), Logger: logger,
	})
	if err != nil {
		return nil, fmt.Errorf("setting up TLS to the participant %s: %w", target, err)
	}
	return config, nil
}

// addressOf returns the IP address in a target, or an empty text when the target is a name. TLS sends the server a name
// but not an address, so an address has to be verified explicitly.
func addressOf(target string) string {
	host, _, err := net.SplitHostPort(target)
	if err != nil {
		return ""
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return ""
	}
	return host
}

// commandServices returns the services that have commands or compensations, sorted.
func commandServices(catalog *contract.Catalog) []string {
	var names []string
	for command := range catalog.Commands() {
		service, _, _ := strings.Cut(command.Method, "/")
		names = append(names, service)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// remoteServices returns the services with commands that go to one participant and not to this orchestrator, sorted.
func remoteServices(catalog *contract.Catalog, local func(method string) bool) []string {
	var names []string
	for command := range catalog.Commands() {
		if !command.Broadcast && !local(command.Method) {
			service, _, _ := strings.Cut(command.Method, "/")
			names = append(names, service)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// broadcastServices returns the services that have broadcasts, sorted.
func broadcastServices(catalog *contract.Catalog) []string {
	var names []string
	for command := range catalog.Commands() {
		if command.Broadcast {
			service, _, _ := strings.Cut(command.Method, "/")
			names = append(names, service)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// services returns the services for which a participant is configured.
func (s *settings) services() []string {
	var services []string
	for _, p := range s.participants {
		services = append(services, p.service)
	}
	return services
}

func listed(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// warnAboutServices logs the services that no participant serves, and the participants whose services no contract has.
// Neither is an error: a program may link contracts that its sagas don't use, and a saga that does use one waits and
// loses nothing.
func (s *settings) warnAboutServices(
	logger *slog.Logger, catalog *contract.Catalog, local func(method string) bool,
) {
	known := commandServices(catalog)
	for _, p := range s.participants {
		if !slices.Contains(known, p.service) {
			logger.Warn("no linked contract has a participant's service, so it only takes part in broadcasts; "+
				"check its spelling",
				"service", p.service, "participant", p.target)
		}
	}
	for _, service := range remoteServices(catalog, local) {
		if !slices.ContainsFunc(s.participants, func(p participant) bool { return p.service == service }) {
			logger.Warn("no participant is configured for a service; sagas that send it commands wait until one is",
				"service", service)
		}
	}
	for _, service := range broadcastServices(catalog) {
		if !slices.ContainsFunc(s.participants, func(p participant) bool { return p.service == service }) &&
			!slices.ContainsFunc(s.broadcasts, func(b broadcast) bool { return b.service == service }) {
			logger.Warn("no participant takes part in the broadcasts of a service; sagas that send one wait until "+
				"participants are configured; name them with --broadcast", "service", service)
		}
	}
}
