package orchestrator

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/treatyhq/treaty/internal/policy"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/dispatch"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/stores"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
	"github.com/treatyhq/treaty/orchestrator/internal/sagacode"
	"github.com/treatyhq/treaty/orchestrator/internal/server"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

var _ saga.Registrar = (*Orchestrator)(nil)

// Orchestrator runs the sagas of one store. Register saga definitions, then call Serve, once.
type Orchestrator struct {
	settings     settings
	logger       *slog.Logger
	catalog      *contract.Catalog
	participants []dispatch.Participant
	identities   map[string][]string // of participants, by service
	parents      []string            // the identities of parents' orchestrators
	policy       *policy.File        // nil: there is none
	tls          *tls.Config

	mu          sync.Mutex
	definitions []saga.Definition
	served      bool
}

// New returns an orchestrator for the contracts that are linked into the program. It opens nothing yet. The error joins
// everything that is wrong with the options and the contracts. Each violation of a contract rule is a
// contract.Violation.
func New(options ...Option) (*Orchestrator, error) {
	o := &Orchestrator{settings: settings{store: DefaultStore, eventRetention: DefaultEventRetention,
		eventIDs: DefaultEventIDRetention, turnLimit: DefaultTurnLimit, childRetention: DefaultChildRetention,
		connectionAge: DefaultConnectionAge}}
	for _, option := range options {
		option(&o.settings)
	}
	o.logger = cmp.Or(o.settings.logger, slog.Default())
	var errs [14]error
	o.catalog, errs[0] = contract.Load(protoregistry.GlobalFiles)
	if errs[0] == nil {
		o.participants, errs[1] = o.settings.connections(o.catalog)
		errs[7] = o.settings.checkStarts(o.catalog)
	}
	o.tls, errs[2] = o.settings.serverTLS()
	errs[3] = o.settings.checkRetention()
	errs[4] = stores.Check(o.settings.store)
	errs[5] = o.settings.checkName()
	errs[8] = o.settings.checkTurnLimit()
	if errs[1] == nil {
		o.identities, errs[6] = o.settings.participantIdentities(o.participants)
	}
	o.parents, errs[9] = o.settings.parentIdentities()
	errs[10] = o.settings.checkAuthorizer()
	if errs[0] == nil {
		o.policy, errs[11] = o.settings.policy(o.catalog)
	}
	errs[12] = o.useTokens()
	if o.policy != nil {
		o.settings.authorizer = o.policy
	}
	errs[13] = o.settings.checkStreams()
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	return o, nil
}

func (s *settings) checkTurnLimit() error {
	if s.turnLimit <= 0 {
		return fmt.Errorf("the turn limit is %v: want more than 0, such as %v", s.turnLimit, DefaultTurnLimit)
	}
	return nil
}

func (s *settings) checkRetention() error {
	switch {
	case s.retention < 0:
		return fmt.Errorf("the retention of sagas is %v: want 0, which keeps them forever, or more", s.retention)
	case s.childRetention < 0:
		return fmt.Errorf("the retention of children is %v: want 0, which keeps them forever, or more",
			s.childRetention)
	case s.sagaIDs != 0 && s.sagaIDs < MinSagaIDRetention:
		return fmt.Errorf("the retention of the ids of sagas is %v: want 0, which keeps them forever, or at least %v",
			s.sagaIDs, MinSagaIDRetention)
	case s.eventIDs <= 0:
		return fmt.Errorf("the retention of the ids of events is %v: want more than 0", s.eventIDs)
	case s.eventRetention < 0:
		return fmt.Errorf("the retention of events is %v: want 0, which keeps them forever, or more", s.eventRetention)
	}
	return nil
}

// RegisterSaga adds a saga definition. Generated functions call it. Register all definitions before Serve, which
// returns what is wrong with them.
func (o *Orchestrator) RegisterSaga(definition saga.Definition) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.definitions = append(o.definitions, definition)
}

// code returns the code of all definitions by name. It succeeds once.
func (o *Orchestrator) code() (map[string]machine.Code, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.served {
		return nil, errors.New("this orchestrator has served before: make a new one with New")
	}
	code, err := o.checked()
	o.served = err == nil
	return code, err
}

// checked returns the code of all definitions by name. The error joins all that is wrong with them. The caller holds
// the lock.
func (o *Orchestrator) checked() (map[string]machine.Code, error) {
	code := make(map[string]machine.Code, len(o.definitions))
	var names []string
	var errs []error
	for _, definition := range o.definitions {
		if code[definition.Name] != nil {
			errs = append(errs, fmt.Errorf("saga %s is registered twice: register it once", definition.Name))
			continue
		}
		code[definition.Name] = sagacode.Of(definition)
		names = append(names, definition.Name)
	}
	slices.Sort(names)
	errs = append(errs, server.Check(o.catalog, names))
	return code, errors.Join(errs...)
}
