package main

import (
	"context"
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
	Rules: ruleSpecs(contract.Rules(), check.RuleTypeLint, violations),
	Categories: []*check.CategorySpec{{
		ID:      category,
		Purpose: "Checks that contracts keep the rules of Treaty.",
	}},
	Info: &info.Spec{
		Documentation: "Checks the contracts of sagas. Each rule is explained at " +
			"https://github.com/treatyhq/treaty/blob/main/docs/contract-reference.md",
		SPDXLicenseID: "apache-2.0",
		LicenseURL:    "https://github.com/treatyhq/treaty/blob/main/LICENSE",
	},
	Before: before,
}

// ruleSpecs returns rules as buf knows them. find returns the violations of all of them.
func ruleSpecs(
	rules []contract.Rule, kind check.RuleType, find func(context.Context) []contract.Violation,
) []*check.RuleSpec {
	specs := make([]*check.RuleSpec, len(rules))
	for i, rule := range rules {
		specs[i] = &check.RuleSpec{
			ID: rule.ID, CategoryIDs: []string{category}, Default: true, Purpose: purpose(rule), Type: kind,
			Handler: check.RuleHandlerFunc(
				func(ctx context.Context, writer check.ResponseWriter, request check.Request) error {
					annotate(writer, request, rule.ID, find(ctx))
					return nil
				}),
		}
	}
	return specs
}

// purpose returns what buf says about a rule, in the form that it asks for.
func purpose(rule contract.Rule) string {
	first, size := utf8.DecodeRuneInString(rule.Summary)
	return "Checks that " + string(unicode.ToLower(first)) + rule.Summary[size:]
}

// annotate reports the violations of a rule to buf.
func annotate(writer check.ResponseWriter, request check.Request, rule string, found []contract.Violation) {
	for _, violation := range found {
		if violation.Rule != rule {
			continue
		}
		// buf prints no ids, and people need them to look up a rule or to make an exception.
		options := []check.AddAnnotationOption{check.WithMessage(violation.Message + " (" + violation.Rule + ")")}
		if path := violation.Position.Path; known(request.FileDescriptors(), path) {
			options = append(options, check.WithFileNameAndSourcePath(path, violation.Source))
		}
		writer.AddAnnotation(options...)
	}
}

func known(files []descriptor.FileDescriptor, path string) bool {
	for _, file := range files {
		if file.ProtoreflectFileDescriptor().Path() == path {
			return true
		}
	}
	return false
}

// results are the violations in the files of one request, found when they are first asked for. Each rule has a handler
// of its own, but all rules are checked at once.
type results struct {
	lint func() []contract.Violation
}

type resultsKey struct{}

func before(ctx context.Context, request check.Request) (context.Context, check.Request, error) {
	return context.WithValue(ctx, resultsKey{}, results{
		lint: sync.OnceValue(func() []contract.Violation {
			return contract.Check(targets(request.FileDescriptors())...)
		}),
	}), request, nil
}

func violations(ctx context.Context) []contract.Violation {
	found, _ := ctx.Value(resultsKey{}).(results)
	return found.lint()
}

// targets returns the files that buf was asked to check, without those that they import.
func targets(files []descriptor.FileDescriptor) []protoreflect.FileDescriptor {
	var targets []protoreflect.FileDescriptor
	for _, file := range files {
		if !file.IsImport() {
			targets = append(targets, file.ProtoreflectFileDescriptor())
		}
	}
	return targets
}
