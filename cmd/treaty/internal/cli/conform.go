package cli

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/treatyhq/treaty/cmd/treaty/internal/conformance"
	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/internal/conform"
)

func (a *app) conformCommand() *cobra.Command {
	var (
		junit       string
		descriptors string
		destructive bool
		set         map[string]string
		against     againstParams
	)
	cmd := &cobra.Command{
		Use:   "conform {FILE | --against EXPECTATIONS}",
		Short: "Check what a participant promises",
		Long: `Check what a running participant promises, in any language. FILE lists its commands. treaty sends each of
them as an orchestrator on a bad network does: twice, many at once, late, after a restart, its compensation
first, under an outdated epoch, as another request. It compares the answers and the effects.

  address: 127.0.0.1:7104             # the participant's, not the orchestrator's
  restart: [systemctl, restart, card] # ends it and starts it again; without it, that isn't checked
  commands:
    - method: acme.card.v1.CardService/IssueCard
      request: {customer: "customers/${unique}"}  # succeeds; ${unique} is another text in each request
      refused: {customer: customers/nobody}       # is refused
      effects:                                    # how many effects there are now; without it, the
        run: [./count-cards.sh]                   # participant's own list counts
        # or a call whose reply has one element for each effect:
        # call: acme.card.v1.CardService/ListCards
        # request: {page_size: 1000}
        # count: cards
      complete: [./complete.sh, "${command_id}"]  # completes an accepted command, if it doesn't itself
  except: [acme.card.v1.CardService/Other]        # is served and not checked

--set gives other variables in requests a value. The commands are executed. What can't be compensated stays, and
the report says what. The contracts are read by server reflection, or from --descriptors. Programs run in FILE's
folder.

With --against instead of FILE, compare the participant's contracts with what sagas expect, which treaty contracts
export has written. No command is sent then.

Exit codes: 0 if all guarantees hold and all expectations are met, 1 if one isn't or a command isn't checked, 2 if
nothing could be checked.`,
		Args: against.args,
		RunE: a.run(func(ctx context.Context, cmd *cobra.Command, args []string) error {
			if against.file != "" {
				against.descriptors = descriptors
				return a.against(ctx, cmd, against)
			}
			file, err := conformance.Read(args[0], set)
			if err != nil {
				hint := "See treaty conform --help for the file's keys."
				if errors.Is(err, fs.ErrNotExist) {
					hint = "Write that file. treaty conform --help shows an example."
				}
				return &problem.Error{Exit: problem.ExitUsage, Message: err.Error(), Hints: []string{hint}}
			}
			if err := a.participant(ctx, cmd, file.Address); err != nil {
				return err
			}
			if err := a.loadDescriptors(descriptors); err != nil {
				return err
			}
			local, err := a.flags.connection.Local()
			if err == nil && !local && !destructive {
				return problem.Usage(
					a.flags.connection.Address+" isn't on this machine, and the check executes commands",
					"If what they do there does no harm, add --destructive.")
			}
			say := func(text string) { a.print(text) }
			if a.flags.json {
				say = func(string) {}
			}
			a.progress.say("checking the participant at %s", a.flags.connection.Address)
			report, err := conformance.Run(ctx, conformance.Params{
				File: file, Address: a.flags.connection.Address, Conn: a.client.Conn(), Schema: a.client.Schema,
				Timeout: a.flags.connection.Timeout, Say: say,
			})
			if report == nil {
				return a.unchecked(err)
			}
			if a.flags.json {
				writeJSON(a.Stdout, report)
			}
			if junit != "" {
				var text bytes.Buffer
				if writeErr := errors.Join(report.WriteJUnit(&text), writeWhole(junit, text.Bytes())); writeErr != nil {
					return &problem.Error{Exit: problem.ExitFailure, Message: "writing --junit: " + writeErr.Error()}
				}
			}
			if err != nil {
				return err
			}
			if !report.Holds() {
				return exitError(problem.ExitFailure)
			}
			return nil
		}),
	}
	cmd.Flags().StringToStringVar(&set, "set", nil, "the value of ${NAME} in the file's requests, `NAME=VALUE`")
	cmd.Flags().StringVar(&junit, "junit", "", "also write the report to this `FILE`, as JUnit XML for CI servers")
	cmd.Flags().StringVar(&descriptors, "descriptors", "",
		"read the contracts from this `FILE`, which buf build -o FILE makes, instead of by server reflection")
	cmd.Flags().BoolVar(&destructive, "destructive", false,
		"execute the commands at a participant that isn't on this machine")
	cmd.Flags().StringVar(&against.file, "against", "",
		"compare the participant's contracts with what sagas expect, which is in this `FILE`")
	cmd.Flags().StringArrayVar(&against.services, "service", nil,
		"with --against: this `SERVICE` must be served, e.g. acme.card.v1.CardService; repeat it for more (default:\n"+
			"those of the file that are served)")
	for _, other := range []string{"set", "junit", "destructive"} {
		cmd.MarkFlagsMutuallyExclusive("against", other)
	}
	return cmd
}

// participant connects to the participant at --address, or else at the address of a file.
func (a *app) participant(ctx context.Context, cmd *cobra.Command, address string) error {
	if !cmd.Flags().Changed("address") {
		if address == "" {
			return problem.Usage("the participant's address is missing",
				"Write it into the file, address: HOST:PORT, or set --address.")
		}
		a.flags.connection.Address = address
	}
	return a.connect(ctx)
}

// loadDescriptors reads the output of buf build, if a file is named.
func (a *app) loadDescriptors(file string) error {
	if file == "" {
		return nil
	}
	raw, err := os.ReadFile(file)
	set := new(descriptorpb.FileDescriptorSet)
	if err == nil {
		if proto.Unmarshal(raw, set) != nil || len(set.GetFile()) == 0 {
			err = errors.New("it has no descriptors")
		} else {
			err = a.client.Schema.Load(set)
		}
	}
	if err != nil {
		return problem.Usage("reading --descriptors "+file+": "+err.Error(),
			"Make the file with buf build -o FILE, with a name that ends in .binpb.")
	}
	return nil
}

// unchecked explains why nothing could be checked at a participant.
func (a *app) unchecked(err error) error {
	p := &problem.Error{Exit: problem.ExitUsage, Message: err.Error(), Code: status.Code(errors.Unwrap(err))}
	address := a.flags.connection.Address
	switch code := status.Code(err); {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, conform.ErrUnreachable), code == codes.Unavailable:
		p.Hints = []string{"Check that a participant listens at " + address + ", with or without TLS as the flags say."}
	case errors.Is(err, conform.ErrNotBelieved):
		p.Hints = []string{"Set --tls-cert and --tls-key to a certificate of an orchestrator that it believes."}
	case code == codes.Unimplemented:
		p.Message = strings.TrimSuffix(p.Message, ": "+status.Convert(err).Message()) +
			": there is no server reflection at " + address
		p.Hints = []string{"Serve server reflection, or add --descriptors FILE after buf build -o FILE."}
	case errors.Is(err, conform.ErrNoCommand):
		p.Hints = []string{"If it is one in the .proto, the server reflection leaves options out, as Node's " +
			"@grpc/reflection does:", "add --descriptors FILE after buf build -o FILE."}
	case code == codes.NotFound:
		p.Hints = []string{"Check the name, and that the participant at " + address + " serves it."}
	}
	return p
}
