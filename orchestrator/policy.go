package orchestrator

import (
	"github.com/spf13/pflag"

	"github.com/treatyhq/treaty/internal/policy"
	"github.com/treatyhq/treaty/orchestrator/contract"
)

// WithPolicyFile allows callers what a grant of this YAML file allows them, and nothing else. New refuses a file that
// isn't valid, or that names a definition, method or event type that no linked contract has. The file is read again
// when it changes, while Serve runs: one that isn't valid then changes nothing, and is logged. docs/policy.md describes
// the file. It can't be combined with WithAuthorizer or WithOpenAccess. Default: none.
func WithPolicyFile(path string) Option { return func(s *settings) { s.policyFile = path } }

// registerPolicy adds the flag of WithPolicyFile.
func (f *flags) registerPolicy(set *pflag.FlagSet) {
	set.StringVar(&f.policy, "policy", "",
		"allow callers what the grants of this YAML `FILE` allow them, and nothing else; it is read again when it "+
			"changes")
}

// policy reads the policy's file. It returns nil if there is none.
func (s *settings) policy(catalog *contract.Catalog) (*policy.File, error) {
	if s.policyFile == "" {
		return nil, nil
	}
	return policy.Open(policy.FileParams{Path: s.policyFile, Catalog: policyCatalog(catalog), Logger: s.logger})
}

// policyCatalog returns what a policy may name.
func policyCatalog(catalog *contract.Catalog) *policy.Catalog {
	names := policy.Catalog{Definitions: []string{}, Methods: []string{}, Events: []string{}}
	for saga := range catalog.SagaDefinitions() {
		names.Definitions = append(names.Definitions, saga.Definition)
	}
	for command := range catalog.Commands() {
		names.Methods = append(names.Methods, command.Method)
	}
	for compensation := range catalog.Compensations() {
		names.Methods = append(names.Methods, compensation.Method)
	}
	for event := range catalog.EventTypes() {
		names.Events = append(names.Events, string(event.Type))
	}
	return &names
}
