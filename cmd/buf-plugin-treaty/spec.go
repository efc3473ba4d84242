package main

import (
	"context"
	"slices"
	"sync"
	"unicode"
	"unicode/utf8"

	"buf.build/go/bufplugin/check"
	"buf.build/go/bufplugin/descriptor"
	"buf.build/go/bufplugin/info"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/treatyhq/treaty/orchestrator/contract"
)

// category is the category of all rules, for "use" and "except" in buf.yaml.
const category = "TREATY"

// spec is what the plugin offers to buf.
var spec = &check.Spec{
	Rules: slices.Concat(
		ruleSpecs(contract.Rules(), check.RuleTypeLint, allViolations),
		ruleSpecs(contract.ChangeRules(), check.RuleTypeBreaking, allChanges),
	),
	Categories: []*check.CategorySpec{{
		ID:      category,
		Purpose: "Checks that contracts keep the rules of Treaty, and that changes don't break open sagas.",
	}},
	Info: &info.Spec{
		Documentation: "Checks the contracts of sagas. Each rule is explained at " +
			"https://github.com/treatyhq/treaty/blob/main/docs/contract-reference.md",
		SPDXLicenseID: "apache-2.0",
		LicenseURL:    "https://github.com/treatyhq/treaty/blob/main/LICENSE",
	},
	Before: before,
}

// ruleSpecs returns rules as buf knows them. find returns what breaks any of them.
func ruleSpecs(
	rules []contract.Rule, kind check.RuleType, find func(results) []contract.Change,
) []*check.RuleSpec {
	specs := make([]*check.RuleSpec, len(rules))
	for i, rule := range rules {
		specs[i] = &check.RuleSpec{
			ID: rule.ID, CategoryIDs: []string{category}, Default: true, Purpose: purpose(rule), Type: kind,
			Handler: check.RuleHandlerFunc(
				func(ctx context.Context, writer check.ResponseWriter, _ check.Request) error {
					all, _ := ctx.Value(resultsKey{}).(results)
					for _, found := range find(all) {
						if found.Rule == rule.ID {
							annotate(writer, found)
						}
					}
					return nil
				}),
		}
	}
	return specs
}

func allViolations(r results) []contract.Change { return r.violations() }

func allChanges(r results) []contract.Change { return r.breaking() }

// purpose returns what buf says about a rule, in the form that it asks for.
func purpose(rule contract.Rule) string {
	first, size := utf8.DecodeRuneInString(rule.Summary)
	return "Checks that " + string(unicode.ToLower(first)) + rule.Summary[size:]
}

// annotate reports to buf what breaks a rule.
func annotate(writer check.ResponseWriter, found contract.Change) {
	// buf prints no ids, and people need them to look up a rule or to make an exception.
	options := []check.AddAnnotationOption{check.WithMessage(found.Message + " (" + found.Rule + ")")}
	if path := found.Position.Path; path != "" {
		options = append(options, check.WithFileNameAndSourcePath(path, found.Source))
	}
	if found.Before != nil {
		options = append(options, check.WithAgainstDescriptor(found.Before))
	}
	writer.AddAnnotation(options...)
}

// results are what breaks rules in the files of one request. They are found when they are first asked for, because each
// rule has a handler of its own, but all rules are checked at once.
type results struct {
	// violations are those of the rules of a contract. None has an earlier descriptor.
	violations func() []contract.Change

	// breaking are the changes that break the rules about changes.
	breaking func() []contract.Change
}

type resultsKey struct{}

func before(ctx context.Context, request check.Request) (context.Context, check.Request, error) {
	files, against := request.FileDescriptors(), request.AgainstFileDescriptors()
	return context.WithValue(ctx, resultsKey{}, results{
		violations: sync.OnceValue(func() []contract.Change {
			var found []contract.Change
			for _, violation := range contract.Check(targets(files)...) {
				found = append(found, contract.Change{Violation: violation})
			}
			return found
		}),
		breaking: sync.OnceValue(func() []contract.Change {
			return contract.CheckChanges(targets(against), reflected(files))
		}),
	}), request, nil
}

// targets returns the files that buf was asked to check, without those that they import.
func targets(files []descriptor.FileDescriptor) []protoreflect.FileDescriptor {
	return reflected(slices.DeleteFunc(slices.Clone(files), descriptor.FileDescriptor.IsImport))
}

func reflected(files []descriptor.FileDescriptor) []protoreflect.FileDescriptor {
	all := make([]protoreflect.FileDescriptor, len(files))
	for i, file := range files {
		all[i] = file.ProtoreflectFileDescriptor()
	}
	return all
}
