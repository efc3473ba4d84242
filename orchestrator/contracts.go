package orchestrator

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/dispatch"
)

// ContractCheck says what is done about the contracts of a participant.
type ContractCheck string

// What is done about the contracts of a participant.
const (
	// ContractsChecked compares them with the orchestrator's when a connection is made. Commands whose contract has
	// drifted wait until it agrees again. If the contracts can't be compared, commands are sent all the same. It is the
	// default.
	ContractsChecked ContractCheck = "checked"

	// ContractsStrict is ContractsChecked, but commands also wait while the contracts can't be compared, for example
	// since the participant has no server reflection.
	ContractsStrict ContractCheck = "strict"

	// ContractsUnchecked doesn't compare them.
	ContractsUnchecked ContractCheck = "unchecked"
)

// WithContracts sets what is done about the contracts of the participant that serves a service. Default
// ContractsChecked.
func WithContracts(service string, check ContractCheck) Option {
	return func(s *settings) {
		if s.contracts == nil {
			s.contracts = make(map[string]ContractCheck)
		}
		s.contracts[service] = check
	}
}

// checkContracts sets what is done about the contracts of the participant that serves a service.
func checkContracts(participants []dispatch.Participant, service string, check ContractCheck) error {
	checks := map[ContractCheck]dispatch.ContractCheck{
		ContractsChecked: dispatch.ContractsChecked, ContractsStrict: dispatch.ContractsStrict,
		ContractsUnchecked: dispatch.ContractsUnchecked,
	}
	set, known := checks[check]
	if !known {
		return fmt.Errorf("the contracts of %s can't be %q: want checked, strict or unchecked", service, check)
	}
	i := serving(participants, service)
	if i < 0 {
		return fmt.Errorf("it is set whether the contracts of %s are checked, but no participant is configured for it",
			service)
	}
	if before := participants[i].Contracts; before != dispatch.ContractsChecked && before != set {
		return fmt.Errorf("the contracts of the participant %s are to be checked in two ways: choose one",
			participants[i].Target)
	}
	participants[i].Contracts = set
	return nil
}

// expected returns the commands of a catalog with their methods, as they are linked into the program.
func expected(catalog *contract.Catalog) []dispatch.Expected {
	var all []dispatch.Expected
	for command := range catalog.Commands() {
		e := dispatch.Expected{Method: linkedMethod(command.Method)}
		if command.Compensation != nil {
			e.Compensation = linkedMethod(command.Compensation.Method)
		}
		if e.Method != nil {
			all = append(all, e)
		}
	}
	return all
}

// linkedMethod returns the descriptor of a method, or nil.
func linkedMethod(name string) protoreflect.MethodDescriptor {
	service, method, _ := strings.Cut(name, "/")
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
	if descriptor, is := found.(protoreflect.ServiceDescriptor); err == nil && is {
		return descriptor.Methods().ByName(protoreflect.Name(method))
	}
	return nil
}

// contractsFlag collects SERVICE=CHECK.
type contractsFlag map[string]ContractCheck

// String returns nothing: help shows no default.
func (f *contractsFlag) String() string { return "" }

// Type returns the name of the type.
func (f *contractsFlag) Type() string { return "check" }

// Set adds one participant.
func (f *contractsFlag) Set(text string) error {
	service, check, ok := strings.Cut(text, "=")
	if !ok || service == "" || check == "" {
		return fmt.Errorf("%q says nothing: want SERVICE=CHECK, for example acme.customer.v1.CustomerService=strict",
			text)
	}
	if *f == nil {
		*f = make(contractsFlag)
	}
	(*f)[strings.TrimSpace(service)] = ContractCheck(strings.TrimSpace(check))
	return nil
}
