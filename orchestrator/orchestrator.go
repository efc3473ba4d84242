package orchestrator

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"syscall"

	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/treatyhq/treaty/internal/tlsfiles"
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
	tls          *tls.Config

	mu          sync.Mutex
	definitions []saga.Definition
	served      bool
}

// New returns an orchestrator for the contracts that are linked into the program. It opens nothing yet. The error joins
// everything that is wrong with the options and the contracts. Each violation of a contract rule is a
// contract.Violation.
func New(options ...Option) (*Orchestrator, error) {
	o := &Orchestrator{settings: settings{store: DefaultStore, eventRetention: DefaultEventRetention}}
	for _, option := range options {
		option(&o.settings)
	}
	o.logger = cmp.Or(o.settings.logger, slog.Default())
	var errs [5]error
	o.catalog, errs[0] = contract.Load(protoregistry.GlobalFiles)
	if errs[0] == nil {
		o.participants, errs[1] = o.settings.connections(o.catalog)
	}
	o.tls, errs[2] = o.settings.serverTLS()
	errs[3] = o.settings.checkRetention()
	errs[4] = stores.Check(o.settings.store)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	return o, nil
}

func (s *settings) checkRetention() error {
	switch {
	case s.retention < 0:
		return fmt.Errorf("the retention of sagas is %v: want 0, which keeps them for ever, or more", s.retention)
	case s.eventRetention < 0:
		return fmt.Errorf("the retention of events is %v: want 0, which keeps them for ever, or more", s.eventRetention)
	}
	return nil
}

func (s *settings) serverTLS() (*tls.Config, error) {
	switch {
	case s.tlsCert == "" && s.tlsKey == "" && s.tlsClientCA == "":
		return nil, nil
	case s.tlsCert == "" || s.tlsKey == "":
		return nil, errors.New("TLS for the API needs both a certificate and its key")
	}
	config, err := tlsfiles.Server(tlsfiles.ServerParams{Cert: s.tlsCert, Key: s.tlsKey, ClientCA: s.tlsClientCA})
	if err != nil {
		return nil, fmt.Errorf("setting up TLS for the API: %w", err)
	}
	return config, nil
}

func (s *settings) transport() string {
	switch {
	case s.tlsCert == "":
		return "plaintext"
	case s.tlsClientCA == "":
		return "TLS"
	default:
		return "mutual TLS"
	}
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

// ListenAndServe is Serve on a TCP address, e.g. "127.0.0.1:7080". Port 0 is a free port.
func (o *Orchestrator) ListenAndServe(ctx context.Context, address string) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("listening on %s: the port is in use: stop the program that uses it, or choose another port",
			address)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("listening on %s: not allowed: choose a port above 1023", address)
	case err != nil:
		return fmt.Errorf("listening on %s: %w", address, cause(err))
	}
	return o.Serve(ctx, listener)
}

// cause returns the cause of a network error, without the address that the message names anyway.
func cause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return op.Err
	}
	return err
}

// checkTransport refuses plaintext on an address that other machines can reach.
func (o *Orchestrator) checkTransport(listener net.Listener) error {
	if o.tls != nil || o.settings.insecure || local(listener.Addr()) {
		return nil
	}
	return fmt.Errorf("serving on %s: other machines can reach it, and it has no TLS: "+
		"give it a certificate and its key, listen on 127.0.0.1, or allow plaintext explicitly (insecure)",
		listener.Addr())
}

// local returns whether only this machine can reach an address.
func local(address net.Addr) bool {
	switch address := address.(type) {
	case *net.TCPAddr:
		return address.IP.IsLoopback()
	case *net.UnixAddr:
		return true
	default:
		return false
	}
}
