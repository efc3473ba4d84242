package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/treatyhq/treaty/orchestrator/contract"
)

// reference is the page that explains each rule with an example that breaks it and one that doesn't.
const reference = "https://github.com/treatyhq/treaty/blob/main/docs/contract-reference.md"

// withReference adds to violations where their rules are explained.
func withReference(err error) error {
	var rules []string
	all := []error{err}
	if joined, is := err.(interface{ Unwrap() []error }); is {
		all = joined.Unwrap()
	}
	for _, one := range all {
		if v, is := errors.AsType[contract.Violation](one); is && !slices.Contains(rules, v.Rule) {
			rules = append(rules, v.Rule)
		}
	}
	if len(rules) == 0 {
		return err
	}
	text := new(strings.Builder)
	text.WriteString(err.Error())
	for _, rule := range rules {
		fmt.Fprintf(text, "\n%s is explained at %s#%s", rule, reference, strings.ToLower(rule))
	}
	return errors.New(text.String())
}
