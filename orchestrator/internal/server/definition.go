package server

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/sagarequest"
)

// definition is a saga definition that is served.
type definition struct {
	*contract.SagaDefinition

	requests *sagarequest.Reader
}

// read reads a request that starts a saga.
func (d *definition) read(request []byte, requestID string) (sagarequest.Start, error) {
	start, err := d.requests.Read(request, requestID)
	return start, asInvalid(err)
}

// asInvalid makes a problem of an error of package sagarequest.
func asInvalid(err error) error {
	var wrong *sagarequest.Error
	if errors.As(err, &wrong) {
		return invalid(wrong.Field, "%s", wrong.Problem)
	}
	return err
}

// service is a saga service that is served.
type service struct {
	name        string
	definitions []*definition
}

// served groups the definitions that have code by their service. A service is served whole or not at all.
func served(catalog *contract.Catalog, names []string) ([]service, error) {
	var services []service
	var errs []error
	registered := make(map[string]bool, len(names))
	for _, name := range names {
		if _, known := catalog.SagaDefinition(name); !known {
			errs = append(errs, fmt.Errorf("saga %s has code, but no linked contract defines it: import the package that is generated from its .proto, and register by it", name))
		}
		registered[name] = true
	}
	for saga := range catalog.SagaDefinitions() {
		name, _, _ := strings.Cut(saga.Definition, "/")
		i := slices.IndexFunc(services, func(s service) bool { return s.name == name })
		if i < 0 {
			if !slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, name+"/") }) {
				continue
			}
			services = append(services, service{name: name})
			i = len(services) - 1
		}
		if !registered[saga.Definition] {
			errs = append(errs, fmt.Errorf("saga service %s can't be served: %s has no code; register its code too, or move it to another service", name, saga.Definition))
			continue
		}
		services[i].definitions = append(services[i].definitions, &definition{SagaDefinition: saga, requests: sagarequest.NewReader(saga)})
	}
	return services, errors.Join(errs...)
}

// Check says which of the saga definitions that have code can't be served, and why: no linked contract has it, or its
// service has another method without code.
func Check(catalog *contract.Catalog, definitions []string) error {
	_, err := served(catalog, definitions)
	return err
}
