package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
	"github.com/treatyhq/treaty/cmd/treaty/internal/schema"
	"github.com/treatyhq/treaty/internal/policy"
)

func (a *app) policyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Check who may do what, before an orchestrator uses it",
		Long:  "Check a file that says who may do what, before an orchestrator uses it with --policy.",
		Args:  cobra.ArbitraryArgs,
		RunE:  groupHelp,
	}
	cmd.AddCommand(a.policyCheckCommand(), a.policyTestCommand())
	return cmd
}

func (a *app) policyCheckCommand() *cobra.Command {
	var offline bool
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Find the mistakes in a policy",
		Long: `Find the mistakes in a policy, each with its line. The definitions, methods and event types in it are
compared with those of the orchestrator, by server reflection: all definitions, and methods and event types that are
named without *. With --offline, no orchestrator is asked, and names are compared with nothing.

Exit codes: 0 if there are none, 1 if there are some, and 2 if the policy couldn't be read or compared.`,
		Args: exact("FILE"),
		RunE: a.run(func(ctx context.Context, _ *cobra.Command, args []string) error {
			checked, err := a.readPolicy(ctx, args[0], !offline)
			if err != nil {
				return err
			}
			if a.flags.json {
				writeJSON(a.Stdout, map[string]any{"file": args[0], "grants": checked.Grants()})
				return nil
			}
			a.print(fmt.Sprintf("%s: %s, no mistakes.\n", args[0], count(checked.Grants(), "grant")))
			return nil
		}),
	}
	cmd.Flags().BoolVar(&offline, "offline", false, "don't compare names with those of the orchestrator")
	return cmd
}

func (a *app) policyTestCommand() *cobra.Command {
	var against string
	cmd := &cobra.Command{
		Use:   "test FILE --against AUDIT",
		Short: "Compare a policy with recorded calls",
		Long: `Compare a policy with the calls in an audit log: which of those that were allowed would it refuse, and
which of those that were refused would it allow? AUDIT has one JSON object per line, or is - for standard input. No
orchestrator is asked.

Exit codes: 0 if all calls would be decided as they were, 1 if some wouldn't, and 2 if they couldn't be compared.`,
		Args: exact("FILE"),
		RunE: a.run(func(ctx context.Context, _ *cobra.Command, args []string) error {
			if against == "" {
				return problem.Usage("a policy is compared with recorded calls: set --against to an audit log")
			}
			checked, err := a.readPolicy(ctx, args[0], false)
			if err != nil {
				// Exit code 1 means that calls would be decided otherwise.
				return problem.Usage(err.Error(), "See treaty policy check "+args[0]+" --offline.")
			}
			result, err := a.dryRun(checked, against)
			if err != nil {
				return problem.Usage(err.Error())
			}
			if a.flags.json {
				a.printDryRunJSON(result)
			} else {
				a.printDryRun(result)
			}
			if result.WithoutDNS > 0 && checked.NamesDNS() {
				_, _ = fmt.Fprintf(a.Stderr, "Note: the DNS names of the certificates of %s weren't recorded, "+
					"so grants to dns: don't count for them.\n", count(result.WithoutDNS, "call"))
			}
			if len(result.Changes) > 0 {
				return exitError(problem.ExitFailure)
			}
			return nil
		}),
	}
	cmd.Flags().StringVar(&against, "against", "", "the `AUDIT` log, a file with one JSON object per line")
	return cmd
}

// readPolicy reads a policy, and compares its names with those of the orchestrator if compare is set. The error is a
// problem with one note per mistake.
func (a *app) readPolicy(ctx context.Context, file string, compare bool) (*policy.Policy, error) {
	data, err := policy.ReadFile(file)
	if err != nil {
		return nil, problem.Usage(err.Error())
	}
	checked, err := policy.Parse(file, data, nil)
	if err == nil && compare {
		var known *policy.Catalog
		if known, err = a.policyCatalog(ctx, checked); err != nil {
			return nil, err
		}
		checked, err = policy.Parse(file, data, known)
	}
	if err != nil {
		mistakes := strings.Split(err.Error(), "\n")
		return nil, &problem.Error{
			Exit: problem.ExitFailure, Message: file + " is no policy that an orchestrator accepts", Notes: mistakes,
		}
	}
	return checked, nil
}

// policyCatalog asks the orchestrator for its definitions, and for what a policy names. The exit code of an error says
// that nothing could be compared.
func (a *app) policyCatalog(ctx context.Context, p *policy.Policy) (*policy.Catalog, error) {
	if err := a.connect(ctx); err != nil {
		return nil, err
	}
	a.progress.say("reading the contracts of %s", a.flags.connection.Address)
	known, err := a.knownNames(p)
	if err == nil {
		return known, nil
	}
	explained := a.explainer().ExplainReflection(err)
	if p, ok := errors.AsType[*problem.Error](explained); ok {
		p.Exit = problem.ExitUsage
		p.Hints = append(p.Hints, "To check the rest of the file, add --offline.")
	}
	return nil, explained
}

func (a *app) knownNames(p *policy.Policy) (*policy.Catalog, error) {
	known := &policy.Catalog{Definitions: []string{}, Methods: []string{}, Events: []string{}, NamesOnly: true}
	served, err := a.client.Schema.Definitions()
	if err != nil {
		return nil, err
	}
	for _, definition := range served {
		known.Definitions = append(known.Definitions, definition.Name)
	}
	methods, events := p.Names()
	for _, name := range methods {
		_, err := a.client.Schema.Method(name)
		switch {
		case err == nil:
			known.Methods = append(known.Methods, name)
		case status.Code(err) != codes.NotFound:
			return nil, err
		}
	}
	for _, name := range events {
		message, err := a.client.Schema.Message(protoreflect.FullName(name))
		switch {
		case err == nil && schema.IsEvent(message):
			known.Events = append(known.Events, name)
		case err != nil && status.Code(err) != codes.NotFound:
			return nil, err
		}
	}
	return known, nil
}

// dryRun compares a policy with a file, or with standard input.
func (a *app) dryRun(p *policy.Policy, path string) (*policy.DryRun, error) {
	a.progress.say("reading %s", path)
	if path == "-" {
		return p.DryRun("standard input", a.Stdin)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the audit log: %w", err)
	}
	defer func() { _ = file.Close() }() // it was only read
	return p.DryRun(path, file)
}

func (a *app) printDryRun(result *policy.DryRun) {
	var out strings.Builder
	for i := range result.Changes {
		change := &result.Changes[i]
		verb := "REFUSED"
		if change.Allowed {
			verb = "ALLOWED"
		}
		line := fmt.Sprintf("%s  %s: %s  %s  %s", verb, count(change.Calls, "call"), change.Principal,
			change.Request.Action, change.Resource())
		out.WriteString(render.Clean(strings.TrimSpace(line)) + "\n")
	}
	changed := 0
	for _, change := range result.Changes {
		changed += change.Calls
	}
	fmt.Fprintf(&out, "%s of %d would be decided otherwise", count(changed, "call"), result.Calls)
	if result.Others > 0 {
		fmt.Fprintf(&out, "; the log has %s", count(result.Others, "other line"))
	}
	a.print(out.String() + ".\n")
}

// changeJSON is a change in the output of --json.
type changeJSON struct {
	Principal  string `json:"principal"`
	Action     string `json:"action"`
	Definition string `json:"definition,omitempty"`
	Method     string `json:"method,omitempty"`
	EventType  string `json:"eventType,omitempty"`
	Source     string `json:"source,omitempty"`
	Consumer   string `json:"consumer,omitempty"`
	Decision   string `json:"decision"`
	Calls      int    `json:"calls"`
}

func (a *app) printDryRunJSON(result *policy.DryRun) {
	changes := make([]changeJSON, 0, len(result.Changes))
	for _, c := range result.Changes {
		decision := "refused"
		if c.Allowed {
			decision = "allowed"
		}
		r := c.Request
		changes = append(changes, changeJSON{Principal: c.Principal, Action: string(r.Action), Definition: r.Definition,
			Method: r.Method, EventType: r.EventType, Source: r.Source, Consumer: r.Consumer, Decision: decision,
			Calls: c.Calls})
	}
	writeJSON(a.Stdout, map[string]any{"calls": result.Calls, "others": result.Others, "changes": changes})
}

// count returns a number with its noun, in the plural if it isn't 1.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
