package server

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/sagarequest"
)

// definition is a saga definition that the server runs.
type definition struct {
	*contract.SagaDefinition

	requests *sagarequest.Reader
}

// read parses a request that starts a saga.
func (d *definition) read(request []byte, requestID string) (sagarequest.Start, error) {
	start, err := d.requests.Read(request, requestID)
	return start, asInvalid(err)
}

// asInvalid converts an error of package sagarequest.
func asInvalid(err error) error {
	if wrong, is := errors.AsType[*sagarequest.Error](err); is {
		return invalid(wrong.Field, "%s", wrong.Problem)
	}
	return err
}

// service is a saga service with its definitions.
type service struct {
	name        string
	definitions []*definition
}

// served groups the definitions that have code by their service. Every definition of a service must have code.
func served(catalog *contract.Catalog, names []string) ([]service, error) {
	var services []service
	var errs []error
	registered := make(map[string]bool, len(names))
	for _, name := range names {
		if _, known := catalog.SagaDefinition(name); !known {
			errs = append(errs, fmt.Errorf("saga %s has code, but no linked contract defines it: import the package "+
				"that is generated from its .proto and register the code with it", name))
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
			errs = append(errs, fmt.Errorf("saga service %s can't be served: %s has no code; register its code too, "+
				"or move it to another service", name, saga.Definition))
			continue
		}
		services[i].definitions = append(
			services[i].definitions, &definition{SagaDefinition: saga, requests: sagarequest.NewReader(saga)},
		)
	}
	return services, errors.Join(errs...)
}

// Check returns an error that names each saga definition that can't be served: no linked contract defines it, or
// another definition of its service has no code. It returns nil when all can be served.
func Check(catalog *contract.Catalog, definitions []string) error {
	_, err := served(catalog, definitions)
	return err
}
