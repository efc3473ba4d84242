package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/treatyhq/treaty/cmd/treaty/internal/resource"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
)

// completionTimeout is how long a shell waits for suggestions.
const completionTimeout = 2 * time.Second

// completionSagas is the largest number of suggested sagas.
const completionSagas = 100

// openSagas is the filter for sagas that haven't ended.
const openSagas = `state = "RUNNING" OR state = "COMPENSATING" OR state = "SUSPENDED"`

// completer suggests words. It never fails: if it can't reach the orchestrator, it suggests nothing.
type completer = func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective)

func (a *app) completeFlag(cmd *cobra.Command, flag string, complete completer) {
	// It fails only for an unknown flag, which the tests would show.
	_ = cmd.RegisterFlagCompletionFunc(flag, complete)
}

func fixed(words ...string) completer {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return words, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	}
}

// completeStates suggests the saga states, in lower case if the word begins in lower case.
func completeStates(_ *cobra.Command, _ []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	states := resource.States()
	if toComplete != "" && toComplete == strings.ToLower(toComplete) {
		states = nil
		for _, state := range resource.States() {
			states = append(states, strings.ToLower(state))
		}
	}
	return withPrefix(states, toComplete), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}

// completeSaga suggests the names of the sagas that match a filter, newest first.
func (a *app) completeSaga(filter string) completer {
	return func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		none := cobra.ShellCompDirectiveNoFileComp
		if len(args) > 0 {
			return nil, none
		}
		ctx, cancel := completionContext(cmd)
		defer cancel()
		if err := a.connect(ctx); err != nil {
			return nil, none
		}
		page, err := a.client.Sagas.ListSagas(ctx,
			&treatyv1.ListSagasRequest{PageSize: completionSagas, Filter: filter})
		if err != nil {
			return nil, none
		}
		var words []string
		for _, saga := range page.GetSagas() {
			name := saga.GetName()
			begun := min(len(toComplete), len(wire.SagaPrefix))
			if toComplete[:begun] != wire.SagaPrefix[:begun] {
				name = strings.TrimPrefix(name, wire.SagaPrefix)
			}
			words = append(words, name+"\t"+resource.StateName(saga.GetState())+" "+saga.GetDefinition())
		}
		return withPrefix(words, toComplete), none | cobra.ShellCompDirectiveKeepOrder
	}
}

// completeMethod suggests saga definitions for the first argument.
func (a *app) completeMethod(
	cmd *cobra.Command, args []string, toComplete string,
) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.completeDefinitions(cmd, args, toComplete)
}

// completeDefinitions suggests saga definitions.
func (a *app) completeDefinitions(
	cmd *cobra.Command, _ []string, toComplete string,
) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := completionContext(cmd)
	defer cancel()
	if err := a.connect(ctx); err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	served, err := a.client.Schema.Definitions()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var words []string
	for _, definition := range served {
		words = append(words, definition.Name)
	}
	return withPrefix(words, toComplete), cobra.ShellCompDirectiveNoFileComp
}

func completionContext(cmd *cobra.Command) (context.Context, context.CancelFunc) {
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	return context.WithTimeout(ctx, completionTimeout)
}

func withPrefix(words []string, prefix string) []string {
	var out []string
	for _, word := range words {
		if strings.HasPrefix(word, prefix) {
			out = append(out, word)
		}
	}
	return out
}
