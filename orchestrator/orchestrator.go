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
	"strings"
	"sync"
	"syscall"

	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/treatyhq/treaty/internal/tlsfiles"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/dispatch"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
	"github.com/treatyhq/treaty/orchestrator/internal/sagacode"
	"github.com/treatyhq/treaty/orchestrator/internal/server"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

var _ saga.Registrar = (*Orchestrator)(nil)

// Orchestrator runs the sagas of one store. It takes saga definitions, then serves once.
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

// New returns an orchestrator over the contracts that the program links. It opens nothing yet. The error tells everything that is wrong
// with the options and the contracts; each violation of a contract rule is a contract.Violation.
func New(options ...Option) (*Orchestrator, error) {
	o := &Orchestrator{settings: settings{store: DefaultStore, eventRetention: DefaultEventRetention}}
	for _, option := range options {
		option(&o.settings)
	}
	o.logger = cmp.Or(o.settings.logger, slog.Default())
	var errs [4]error
	o.catalog, errs[0] = contract.Load(protoregistry.GlobalFiles)
	if errs[0] == nil {
		o.participants, errs[1] = o.settings.dispatched(o.catalog)
	}
	o.tls, errs[2] = o.settings.serverTLS()
	errs[3] = o.settings.checkKept()
	if strings.Contains(o.settings.store, "://") {
		errs = [4]error{errors.Join(errs[:]...), fmt.Errorf("the store %q is a URL: name a file", o.settings.store)}
	}
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	return o, nil
}

// checkKept checks how long things are kept.
func (s *settings) checkKept() error {
	switch {
	case s.retention < 0:
		return fmt.Errorf("the retention of sagas is %v: it can't be negative, and 0 keeps them for ever", s.retention)
	case s.eventRetention < 0:
		return fmt.Errorf("the retention of events is %v: it can't be negative, and 0 keeps them for ever", s.eventRetention)
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

// RegisterSaga adds a saga definition. Generated functions call it; one that comes after Serve is too late. What is wrong with a
// definition, Serve tells.
func (o *Orchestrator) RegisterSaga(definition saga.Definition) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.definitions = append(o.definitions, definition)
}

// code returns the code of all definitions by name.
func (o *Orchestrator) code() (map[string]machine.Code, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.served {
		return nil, errors.New("this orchestrator has served already: make a new one")
	}
	code, err := o.checked()
	o.served = err == nil
	return code, err
}

// checked returns the code of all definitions by name. The error tells all that is wrong with them. The caller holds the lock.
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

// ListenAndServe is Serve on a TCP address, e.g. "127.0.0.1:7080"; port 0 is one that is free.
func (o *Orchestrator) ListenAndServe(ctx context.Context, address string) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("listening on %s: the port is in use: end the program that has it, or choose another port", address)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("listening on %s: not allowed: choose a port above 1023", address)
	case err != nil:
		return fmt.Errorf("listening on %s: %w", address, cause(err))
	}
	return o.Serve(ctx, listener)
}

// cause leaves out what the message says anyway.
func cause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return op.Err
	}
	return err
}

// confined refuses to serve plaintext where others could reach it.
func (o *Orchestrator) confined(listener net.Listener) error {
	if o.tls != nil || o.settings.insecure || local(listener.Addr()) {
		return nil
	}
	return fmt.Errorf("serving on %s: others can reach it, and it has no TLS: give it a certificate and its key, listen on 127.0.0.1, or allow plaintext explicitly (insecure)",
		listener.Addr())
}

// local says whether only this machine reaches an address.
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
